"""The exercises of section 4.5, regularisation."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def best_correlation(x: Float[Tensor, "rows inputs"], sigma: Float[Tensor, " rows"]) -> float:
    """The norm of the mean of σ_i x_i: the best w points along it."""
    return float((sigma @ x).norm() / len(x))


def equal_width(tasks: int, width: int, inputs: int) -> float:
    """From (inputs + 1) w + T (w + 1) = T ((inputs + 1) · width + width + 1)."""
    return tasks * (inputs + 2) * width / (inputs + 1 + tasks)


@exercise(
    "4.5.a",
    "Find the best correlation with given signs within the linear functions of unit norm.",
    reference=best_correlation,
    hints=(
        "The sum is linear in w: pull w out of it.",
        "Which unit vector has the largest product with a given vector?",
    ),
)
def _check_best_correlation(answer: Callable[[Tensor, Tensor], float]) -> None:
    draws = torch.Generator().manual_seed(0)
    for rows, inputs in ((6, 2), (40, 5)):
        x = torch.randn(rows, inputs, generator=draws, dtype=torch.float64)
        sigma = 2.0 * torch.randint(2, (rows,), generator=draws).double() - 1
        found, right = float(answer(x, sigma)), best_correlation(x, sigma)
        if abs(found - rows * right) < 1e-9:
            raise WrongAnswer("divide by the number of rows: the complexity is a mean")
        if abs(found - right**2) < 1e-9:
            raise WrongAnswer(
                "w has norm 1: the product with its own direction is a norm, no square"
            )
        if abs(found - right) > 1e-9:
            raise WrongAnswer(
                "pull w out of the sum: (1/n) Σ σ_i w·x_i is the product of w with one vector, and "
                "the unit vector along that one has the largest product with it"
            )


@exercise(
    "4.5.b",
    "Find the width of a shared layer that has as many parameters as separate networks.",
    reference=equal_width,
    hints=(
        "A separate network has (inputs + 1) width + width + 1 parameters.",
        "The shared one has (inputs + 1) w in the layer and w + 1 in each head.",
    ),
)
def _check_equal_width(answer: Callable[[int, int, int], float]) -> None:
    for tasks, width, inputs in ((8, 8, 20), (2, 16, 64), (1, 5, 3)):
        found, right = float(answer(tasks, width, inputs)), equal_width(tasks, width, inputs)
        if tasks == 8 and abs(found - tasks * width) < 1e-6:
            raise WrongAnswer("T times the width is too wide: every head grows with the layer, too")
        if tasks == 8 and abs(found - tasks * (inputs + 1) * width / (inputs + tasks)) < 1e-6:
            raise WrongAnswer("count the biases of the layer: one for each unit")
        if abs(found - right) > 1e-6:
            raise WrongAnswer(
                f"for tasks, width, inputs = {(tasks, width, inputs)} both have as many parameters "
                f"at {right:.4f}: write down both counts, biases and heads too, and solve for w"
            )


prediction(
    "4.5.c",
    "All eight tasks get the same random labels. Where does the fit of the shared layer of the "
    "same width go, compared with labels of their own?",
    choices=DIRECTIONS,
    answer="rises",
    because="The tasks are now one task. What one network of that width can fit for one of them it "
    "fits for all: sharing restricts only where tasks ask for different things.",
    hints=("How many different labellings does the layer have to serve?",),
)
