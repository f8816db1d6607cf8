"""Exercises of section 3.2, soft parameter sharing."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.sharing.soft import SquaredDistance, TraceNorm


def pulled_together(
    values: Float[Tensor, " tasks"], step_size: float, strength: float
) -> Float[Tensor, " tasks"]:
    """The proximal map of the squared distance: the mean stays, deviations shrink."""
    mean = values.mean()
    return mean + (values - mean) / (1 + 2 * len(values) * step_size * strength)


@exercise(
    "3.2.a",
    "Write the proximal map of the squared distance for the values of one weight in all tasks.",
    reference=pulled_together,
    hints=(
        "What stays as it is when all tasks are pulled together?",
        "The mean stays. Set the derivative by a task's deviation from it to zero.",
    ),
)
def check_pulled_together(answer: Callable[[Tensor, float, float], Tensor]) -> None:
    """Accept the map for two and for five tasks."""
    for tasks in (2, 5):
        values = torch.linspace(-1, 2, tasks, dtype=torch.float64) ** 3
        new = answer(values.clone(), 0.1, 3.0)
        if tuple(new.shape) != (tasks,):
            raise WrongAnswer(f"the result has a value for each of the {tasks} tasks")
        if not torch.isclose(new.mean(), values.mean()):
            raise WrongAnswer("pulling the tasks towards each other must leave their mean as it is")
        if not torch.allclose(new, SquaredDistance(3.0).shrink(values, 0.3)):
            raise WrongAnswer(
                "the deviations shrink by a wrong factor: set the derivative of "
                "½‖θ − θ'‖² + ηλ T Σ_t (θ_t − m)² by a deviation to zero, and mind T and the 2"
            )


def step_of_one_network(step_size: float, tasks: int) -> float:
    """The tied networks move by the mean of the gradients, one network by their sum."""
    return step_size / tasks


@exercise(
    "3.2.b",
    "With which step size does one network, trained on the sum of the tasks' losses, take the same "
    "steps as softly shared networks with λ = ∞ and step size η?",
    reference=step_of_one_network,
    hints=("By how much does the mean of the networks move in a step?",),
)
def check_step_of_one_network(answer: Callable[[float, int], float]) -> None:
    """Accept η / T."""
    if answer(0.3, 1) != 0.3:
        raise WrongAnswer("with a single task there is nothing to correct: the step is η itself")
    if not all(abs(answer(0.3, tasks) - 0.3 / tasks) < 1e-12 for tasks in (2, 3, 10)):
        raise WrongAnswer(
            "each network takes a step along its own gradient, and λ = ∞ replaces all by their "
            "mean: by how much does the mean move, compared with a step along the sum?"
        )


def thresholded(
    matrix: Float[Tensor, "parameters tasks"], amount: float
) -> Float[Tensor, "parameters tasks"]:
    """The proximal map of the trace norm: singular values lowered, at least 0."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ torch.diag((values - amount).clamp(min=0)) @ right


@exercise(
    "3.2.c",
    "Write the proximal map of the trace norm for a matrix of parameters × tasks.",
    reference=thresholded,
    hints=(
        "It acts on the singular values alone.",
        "torch.linalg.svd(matrix, full_matrices=False) gives them; none may fall below 0.",
    ),
)
def check_thresholded(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Accept the thresholded matrix where one singular value falls to 0."""
    matrix = torch.arange(12, dtype=torch.float64).view(4, 3).sin()
    singular = torch.linalg.svdvals(matrix)
    amount = float(singular[1:].mean())
    new = answer(matrix.clone(), amount)
    if new.shape != matrix.shape:
        raise WrongAnswer("the result has the shape of the matrix: reduce the SVD, do not pad it")
    found = torch.linalg.svdvals(new)
    if found[2] > 1e-9:
        raise WrongAnswer("a singular value below the amount becomes 0, so that the rank falls")
    if torch.allclose(found[:2], singular[:2]):
        raise WrongAnswer("the larger singular values shrink, too: each by the amount")
    if not torch.allclose(new, TraceNorm(1.0).shrink(matrix, amount)):
        raise WrongAnswer("lower the singular values, keep the singular vectors, and multiply out")


prediction(
    "3.2.d",
    "Tasks with ρ = 0.9 are nearly the same. Turn λ from 0.1 to ∞, one network for all. What "
    "happens to the excess error?",
    choices=DIRECTIONS,
    answer="rises",
    because="A correlation of 0.9 between weights still leaves the tasks' targets well apart, and "
    "one network cannot follow them. What it saves in variance it loses in bias: at ρ = 0.9 the "
    "bias is larger, at ρ = 1 there is none.",
    hints=(
        "What can networks at λ = ∞ not do that networks at λ = 0.1 can?",
        "How large is √(1 − ρ), the weight of what is a task's own, at ρ = 0.9?",
    ),
)
