"""Exercises of section 7.8, representation learning."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.metrics import IGNORED


def next_words(
    tokens: Int[Tensor, "sentences length"], mask: Bool[Tensor, "sentences length"]
) -> Int[Tensor, "sentences length"]:
    """The word behind each word; −100 behind the last one and at padding."""
    known = torch.where(mask, tokens, IGNORED)
    return torch.where(mask, F.pad(known[:, 1:], (0, 1), value=IGNORED), IGNORED)


@exercise(
    "7.8.a",
    "Write the targets of the forward language model for padded sentences (tokens and mask, both "
    "of the shape (sentences, length)): the next word's number, −100 where there is none.",
    reference=next_words,
    hints=(
        "Shift the tokens by one place to the left; nothing comes in from the right.",
        "Padding is no word: the last word of a short sentence has no next one.",
    ),
)
def check_next_words(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept the targets of a full and of a short sentence."""
    tokens = torch.tensor([[5, 3, 8, 2], [7, 4, 0, 0]])
    found = answer(tokens.clone(), tokens > 0)
    expected = torch.tensor([[3, 8, 2, -100], [4, -100, -100, -100]])
    if tuple(found.shape) != (2, 4):
        raise WrongAnswer("the targets have a place for each word, (sentences, length)")
    if torch.equal(found[0], torch.tensor([5, 3, 8, 2])):
        raise WrongAnswer("each word predicts itself: a language model predicts the word behind it")
    if found[0, -1] == 5:
        raise WrongAnswer("the last word of a sentence does not predict its first: nothing follows")
    if not torch.equal(found[0], expected[0]):
        raise WrongAnswer("the full sentence 5 3 8 2 has the targets 3 8 2 −100")
    if not torch.equal(found[1], expected[1]):
        raise WrongAnswer("padding is no word: behind 7 comes 4, and behind 4 nothing")


def least_loss(sharpness: float, states: int, words_of_state: int) -> float:
    """The entropy of the next state given this one, and of a word given its state."""
    other = (1 - sharpness) / states
    successor = sharpness + other
    of_state = -successor * math.log(successor)
    if other:
        of_state -= (states - 1) * other * math.log(other)
    return of_state + math.log(words_of_state)


@exercise(
    "7.8.b",
    "Each word belongs to one state, and each of K states emits one of m own words, all alike. "
    "With the probability s the next state is the successor of the present one, else any of the K, "
    "all alike. Give the least expected loss, in nats, of predicting the next word from this one.",
    reference=least_loss,
    hints=(
        "The present word shows its state, and earlier words add nothing to that.",
        "The successor has the probability s + (1 − s)/K, each other state (1 − s)/K.",
        "The loss is the entropy of the next state plus that of a word given its state.",
    ),
)
def check_least_loss(answer: Callable[[float, int, int], float]) -> None:
    """Accept the entropy for several chains, the flat one and the certain one among them."""
    for sharpness, states, words in ((0.8, 12, 20), (0.5, 4, 3), (0.0, 6, 5), (1.0, 6, 5)):
        found, right = float(answer(sharpness, states, words)), least_loss(sharpness, states, words)
        if math.isnan(found):
            raise WrongAnswer("at s = 1 the other states have probability 0, and 0 · log 0 is 0")
        if abs(found * math.log(2) - right) < 1e-9:
            raise WrongAnswer("that is the entropy in bits: give nats, with the natural logarithm")
        if abs(found - right + math.log(words)) < 1e-9 < math.log(words):
            raise WrongAnswer("the next state is not yet its word: add the entropy of its words")
        if abs(found - right) > 1e-9:
            raise WrongAnswer(
                f"with s = {sharpness:g}, K = {states} and m = {words} it is {right:.3f} nats: the "
                "successor can also come by the draw from all states"
            )


def head_cost(width: int, hidden: int, classes: int) -> int:
    """Two heads, each a layer from the state to its units and one from these to the words."""
    return 2 * (width * hidden + hidden * classes)


@exercise(
    "7.8.c",
    "Give the multiply–accumulates a word of both language-model heads, without biases, for states "
    "of `width` features a direction, a tanh layer of `hidden` units and `classes` words.",
    reference=head_cost,
    hints=("A matrix of a × b costs a · b a word.", "There are two directions, with a head each."),
)
def check_head_cost(answer: Callable[[int, int, int], int]) -> None:
    """Accept the cost at Rei's sizes and at the page's."""
    for width, hidden, classes in ((300, 50, 7_501), (12, 12, 41)):
        found, right = answer(width, hidden, classes), head_cost(width, hidden, classes)
        if found * 2 == right:
            raise WrongAnswer("that is one head: there is one for each direction")
        if found == 2 * right:
            raise WrongAnswer("a multiply–accumulate counts once here, not as two operations")
        if found == 2 * width * classes:
            raise WrongAnswer("the softmax reads the tanh layer, not the state itself")
        if found != right:
            raise WrongAnswer("per head: state to tanh layer, and tanh layer to words")


prediction(
    "7.8.d",
    "Give the constructed text 500 tagged sentences of 1,000 in place of 150, labels = 500. What "
    "happens to the relative error reduction by more text?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: with 500 tagged sentences the tags themselves teach the words' states, and "
    "only 500 sentences are left that the language model alone can read.",
    hints=("What do untagged sentences tell about a word that is tagged thirty times?",),
)
