"""Exercises of section 8.5, which tasks together."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.book.experiments.grouping import linear_cka


def cka(first: Float[Tensor, "rows units"], second: Float[Tensor, "rows others"]) -> float:
    """‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred representations."""
    return linear_cka(first, second)


@exercise(
    "8.5.a",
    "Write linear CKA of two representations of the same rows.",
    reference=cka,
    hints=(
        "Subtract each column's mean first.",
        "For matrices, torch's norm() is the Frobenius norm.",
    ),
)
def check_cka(answer: Callable[[Tensor, Tensor], float | Tensor]) -> None:
    """Accept what the package computes."""
    numbers = torch.arange(60, dtype=torch.float64)
    first = numbers.sin().view(12, 5) + 1
    second = (1.7 * numbers[:36]).cos().view(12, 3) - 2
    found = float(answer(first.clone(), second.clone()))
    x, y = first - first.mean(0), second - second.mean(0)
    top, bottom = (y.T @ x).norm(), (x.T @ x).norm() * (y.T @ y).norm()
    raw = float(
        (second.T @ first).square().sum() / ((first.T @ first).norm() * (second.T @ second).norm())
    )
    if abs(found - raw) < 1e-9:
        raise WrongAnswer("the representations are centred: subtract each column's mean")
    if abs(found - float(top / bottom)) < 1e-9:
        raise WrongAnswer("the norm of YᵀX is squared: the other two are norms of squares already")
    if abs(found - float(top.square() / bottom)) > 1e-9:
        raise WrongAnswer("compare with the formula: what is squared, and what divides it?")


prediction(
    "8.5.b",
    "Ten times as many rows, labels = 1000. What happens to the loss that one network for all "
    "tasks has above that of the oracle's groups?",
    choices=DIRECTIONS,
    answer="rises",
    because="It rises, relative to single-task networks: with many rows nobody needs help, and the "
    "eight units are what is scarce.",
    hints=("What do tasks of a cluster give each other with few rows, and compete for with many?",),
)
