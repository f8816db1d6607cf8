"""Exercises of section 6.4, low supervision."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def words_seen(layer: int, reach: int, position: int, length: int) -> int:
    """The words within l·r positions on each side, as far as the sentence goes."""
    first = max(0, position - layer * reach)
    last = min(length - 1, position + layer * reach)
    return last - first + 1


@exercise(
    "6.4.a",
    "How many words does a head see at layer l of windows that reach over r neighbours on each "
    "side, in a sentence of n words, at position i (from 0)?",
    reference=words_seen,
    hints=(
        "Each layer adds r words on each side of what the layer below sees.",
        "The sentence ends: at position 0 there is nothing to the left.",
    ),
)
def check_words_seen(answer: Callable[[int, int, int, int], int]) -> None:
    """Accept the number of positions within reach, found step by step."""
    for layer, reach, position, length in (
        *((1, 1, 4, 9), (2, 1, 4, 9), (3, 1, 4, 9), (2, 2, 4, 9), (3, 0, 4, 9)),
        *((3, 1, 0, 9), (3, 1, 8, 9), (3, 2, 1, 4)),
    ):
        seen = {position}
        for _ in range(layer):
            seen = {own + step for own in seen for step in range(-reach, reach + 1)}
        inside = [own for own in seen if 0 <= own < length]
        found = answer(layer, reach, position, length)
        if found == len(inside):
            continue
        if found == len(seen):
            raise WrongAnswer("words beyond the ends of the sentence do not count")
        if found == 2 * reach + 1:
            raise WrongAnswer("that is one layer: each further one sees what its neighbours saw")
        raise WrongAnswer(
            f"at layer {layer}, with a reach of {reach} at position {position} of {length} words, "
            f"a head sees {len(inside)}, not {found}"
        )


def one_hot_weights(at: Sequence[int], layers: int) -> Float[Tensor, "tasks layers"]:
    """A 1 where the task has its head, and else 0."""
    beta = torch.zeros(len(at), layers)
    beta[torch.arange(len(at)), torch.tensor(at) - 1] = 1
    return beta


@exercise(
    "6.4.b",
    "Give the weights β, (tasks, layers), with which ŷ_t = head_t(Σ_l β_tl h^l) is a stack whose "
    "task t has its head at layer at[t], counted from 1.",
    reference=one_hot_weights,
    hints=("Each row picks one layer.", "Layers count from 1, and the columns of β from 0."),
)
def check_one_hot_weights(answer: Callable[[Sequence[int], int], Tensor]) -> None:
    """Accept weights that pick each task's own features."""
    states = torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=torch.float64)
    for at, layers in (([1, 3], 3), ([2, 2, 1], 4), ([4], 4)):
        beta = answer(at, layers)
        if tuple(beta.shape) != (len(at), layers):
            raise WrongAnswer(f"a row for each of {len(at)} tasks, a column for each layer")
        mixed = beta.double() @ states[:layers]
        if torch.equal(mixed, states[torch.tensor(at) - 1]):
            continue
        if not torch.equal(beta.double().sum(1), torch.ones(len(at), dtype=torch.float64)):
            raise WrongAnswer("each task reads one layer alone: one 1 in each row, and zeros")
        raise WrongAnswer("layers count from 1: the first layer's weight is in column 0")


def trained_by(at: Mapping[str, int], layers: int) -> list[set[str]]:
    """Each layer is trained by the tasks whose heads stand there or above."""
    return [
        {task for task, place in at.items() if place >= layer} for layer in range(1, layers + 1)
    ]


@exercise(
    "6.4.c",
    "From a dictionary of each task's layer give, for each layer from the first on, the set of the "
    "tasks whose loss has a gradient there.",
    reference=trained_by,
    hints=(
        "A loss goes back through every layer that its prediction went through.",
        "The head of a task at layer 2 is computed from layers 1 and 2.",
    ),
)
def check_trained_by(answer: Callable[[Mapping[str, int], int], list[set[str]]]) -> None:
    """Accept the tasks whose prediction changes with a layer."""
    for at, layers in (({"low": 1, "main": 3}, 3), ({"a": 2, "b": 2, "c": 1}, 2)):
        found = [set(own) for own in answer(dict(at), layers)]
        expected = [
            {task for task in at if layer in range(1, at[task] + 1)}
            for layer in range(1, layers + 1)
        ]
        if len(found) != layers:
            raise WrongAnswer(f"a set for each of the {layers} layers, empty ones included")
        if found == [
            {task for task, place in at.items() if place <= layer} for layer in range(1, layers + 1)
        ]:
            raise WrongAnswer("the other way round: a low head does not train what lies above it")
        if found == [
            {task for task, place in at.items() if place == layer} for layer in range(1, layers + 1)
        ]:
            raise WrongAnswer("the loss goes on, from its head's layer down to the first")
        if found != expected:
            raise WrongAnswer("a task trains all layers from the first to its own")


prediction(
    "6.4.d",
    "Make the layers three times as wide, width = 24. What happens to the advantage of the first "
    "layer over the last on the constructed sentences?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: 24 units hold the features of both tasks, so that a low head has less "
    "interference to remove, while the upper layers miss what the low-level task taught them.",
    hints=("What do the tasks compete for at the last layer?",),
)
