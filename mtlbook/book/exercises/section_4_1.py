"""Exercises of section 4.1, implicit data augmentation."""

from collections.abc import Callable
from math import isclose, log

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def common_estimate(
    targets: Float[Tensor, "rows tasks"], factors: Float[Tensor, " tasks"]
) -> Float[Tensor, " rows"]:
    """The least-squares estimate of F(x): a weighted average of the tasks' own estimates."""
    return targets @ factors / factors.square().sum()


@exercise(
    "4.1.a",
    "Write the least-squares estimate of F(x) from all tasks' targets and their factors.",
    reference=common_estimate,
    hints=(
        "Minimise the sum over the tasks of (y_k − c_k f)², for each row, over f.",
        "The derivative is 0 where f Σ_k c_k² = Σ_k c_k y_k.",
    ),
)
def check_common_estimate(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept Σ_k c_k y_k / Σ_k c_k², for targets with noise, too."""
    factors = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    truth = torch.linspace(-1, 2, 7, dtype=torch.float64)
    found = answer(truth[:, None] * factors, factors)
    if tuple(found.shape) != (7,):
        raise WrongAnswer("there is one estimate for each row, not for each task")
    if not torch.allclose(found, truth):
        raise WrongAnswer(
            "targets without noise must give F itself, whatever the size and the sign of c_k"
        )
    targets = torch.arange(12, dtype=torch.float64).view(4, 3).sin()
    least = torch.linalg.lstsq(factors[:, None], targets.T).solution[0]
    if not torch.allclose(answer(targets, factors), least):
        raise WrongAnswer(
            "without noise it is right, but a task with a small factor gets too much weight: its "
            "noise is larger next to its signal. Set the derivative of Σ_k (y_k − c_k f)² to zero"
        )


# 8 / (1 + 7 ρ) = 2.
CORRELATION = 3 / 7


@exercise(
    "4.1.b",
    "Eight tasks with equal factors are worth only two with independent noise. How strongly does "
    "their noise correlate?",
    reference=CORRELATION,
    hints=("Solve the design effect, K / (1 + (K − 1) ρ) = 2, for ρ.",),
)
def check_correlation(answer: float | int) -> None:
    """Accept 3/7, also rounded to two decimals."""
    if not 0 <= answer <= 1:
        raise WrongAnswer("a correlation that lowers the worth lies between 0 and 1")
    worth = 8 / (1 + 7 * answer)
    if abs(worth - 2) > 0.02:
        raise WrongAnswer(
            f"with this correlation eight tasks are worth {worth:.2f}: solve "
            "K / (1 + (K − 1) ρ) = 2 for ρ, with K = 8"
        )


prediction(
    "4.1.c",
    "Half of the noise is common to all tasks (ρ = 0.5). What happens to the relative error "
    "reduction by eight measurements of one function?",
    choices=DIRECTIONS,
    answer="falls",
    because="Eight tasks whose noise correlates by 0.5 are worth 8 / (1 + 7 · 0.5) = 1.8 tasks "
    "with independent noise: the common half stays in every average, however many tasks there are.",
    hints=(
        "Which part of the noise does an average of eight measurements not touch?",
        "Put ρ = 0.5 and K = 8 into K / (1 + (K − 1) ρ).",
    ),
)


def examples_needed(
    error: float, small: float, error_small: float, large: float, error_large: float
) -> float:
    """On the straight line between two points in the logarithms of examples and error."""
    share = log(error_small / error) / log(error_small / error_large)
    return small * (large / small) ** share


@exercise(
    "4.1.d",
    "Write the effective sample size between two points of a learning curve that follows a power "
    "law.",
    reference=examples_needed,
    hints=("A power law is a straight line in the logarithms of examples and error.",),
)
def check_examples_needed(answer: Callable[[float, float, float, float, float], float]) -> None:
    """Accept the inverse of two power laws."""
    if not isclose(answer(0.4, 100.0, 0.4, 400.0, 0.1), 100):
        raise WrongAnswer("the error of the small number of examples needs just these examples")
    if not isclose(answer(0.1, 100.0, 0.4, 400.0, 0.1), 400):
        raise WrongAnswer("the error of the large number of examples needs just those examples")
    if isclose(answer(0.2, 100.0, 0.4, 400.0, 0.1), 300):
        raise WrongAnswer(
            "this is straight in the numbers themselves: between 0.4 at 100 and 0.1 at 400 the "
            "power law 40 / n has the error 0.2 at 200 examples. Take logarithms first"
        )
    for size in (150.0, 200.0, 350.0):
        for power in (0.5, 1.0):
            errors = [7 * n**-power for n in (size, 100.0, 400.0)]
            if not isclose(answer(errors[0], 100.0, errors[1], 400.0, errors[2]), size):
                raise WrongAnswer(
                    "the two ends are right, but not what lies between: both axes are logarithmic"
                )
