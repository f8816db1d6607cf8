"""Exercises of section 7.6, predicting inputs."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def crossing_noise(p: int, n: int) -> float:
    """Input: s² / (1 + s²), output: s² p / n; equal where 1 + s² = n / p."""
    return n / p - 1


@exercise(
    "7.6.a",
    "Give the noise variance s² of a feature z = g + s ε, with g and ε standard normal, at which "
    "the best linear prediction of g from z has the same squared error as a mapping of p "
    "parameters learnt from n rows of z, s² p / n.",
    reference=crossing_noise,
    hints=(
        "The best linear prediction of g from z is z / (1 + s²); its error is s² / (1 + s²).",
        "s² / (1 + s²) = s² p / n: divide by s².",
    ),
)
def check_crossing_noise(answer: Callable[[int, int], float]) -> None:
    """Accept n / p − 1."""
    for p, n in ((20, 50), (10, 200), (3, 7)):
        found, expected = float(answer(p, n)), n / p - 1
        if abs(found - (1 - p / n)) < 1e-9 * expected:
            raise WrongAnswer("that is an error at the crossing: the noise variance is asked for")
        if abs(found - n / p) < 1e-9 * expected:
            raise WrongAnswer("as an input z also says something: its error is s² / (1 + s²)")
        if abs(found - max(expected, 0) ** 0.5) < 1e-9 * expected and expected != 1:
            raise WrongAnswer("that is s: the variance s² is asked for")
        if abs(found - expected) > 1e-9 * expected:
            raise WrongAnswer("set s² / (1 + s²), the error as an input, equal to s² p / n")


def as_outputs(
    inputs: Float[Tensor, "rows columns"],
    columns: Sequence[int],
    training: Int[Tensor, " training"],
) -> tuple[Float[Tensor, "rows left"], Float[Tensor, "rows outputs"]]:
    """The other columns, and these ones in units of the training rows."""
    left = [column for column in range(inputs.shape[1]) if column not in columns]
    targets = inputs[:, list(columns)]
    known = targets[training]
    return inputs[:, left], (targets - known.mean(0)) / known.std(0, correction=0)


@exercise(
    "7.6.b",
    "Write as_outputs(inputs, columns, training): the inputs without these columns, and the "
    "targets that the columns become, in units of their mean and standard deviation over the rows "
    "`training` (divide by n, not by n − 1).",
    reference=as_outputs,
    hints=(
        "Take the means and standard deviations from inputs[training] alone.",
        "inputs[:, columns] are the targets; all other columns stay, in their order.",
    ),
)
def check_as_outputs(
    answer: Callable[[Tensor, list[int], Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Accept the split and the scale."""
    inputs = torch.arange(35, dtype=torch.float64).square().sin().view(7, 5) * 3 + 1
    columns, training = [3, 1], torch.tensor([0, 2, 5])
    left, targets = answer(inputs.clone(), list(columns), training)
    if left.shape[1] == inputs.shape[1]:
        raise WrongAnswer("the columns are still among the inputs: the network would copy them")
    if not torch.equal(left, inputs[:, [0, 2, 4]]):
        raise WrongAnswer("the columns that stay are 0, 2 and 4, in this order and as they were")
    chosen = inputs[:, columns]
    everywhere = (chosen - chosen.mean(0)) / chosen.std(0, correction=0)
    known = chosen[training]
    expected = (chosen - known.mean(0)) / known.std(0, correction=0)
    if targets.shape == expected.shape and torch.allclose(targets, everywhere):
        raise WrongAnswer("mean and standard deviation are those of the training rows alone")
    if targets.shape != expected.shape or not torch.allclose(targets, expected):
        raise WrongAnswer("the targets are the columns in the order given, with mean 0 and size 1")


prediction(
    "7.6.c",
    "Give the constructed task four times as many labelled rows, rows = 200. What happens to the "
    "relative error reduction by outputs with one standard deviation of noise against dropped "
    "features?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: 200 labels tell the network by themselves which bits count, and the mapping "
    "that the features teach is known already.",
    hints=("What does a feature as an output teach that many labels do not?",),
)
