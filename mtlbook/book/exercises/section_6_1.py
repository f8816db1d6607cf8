"""Exercises of section 6.1, deep relationship networks."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def task_covariance(
    heads: Float[Tensor, "features outputs tasks"],
    features: Float[Tensor, "features features"],
    outputs: Float[Tensor, "outputs outputs"],
) -> Float[Tensor, "tasks tasks"]:
    """Σ_3,st = tr(W_sᵀ Σ_1⁻¹ W_t Σ_2⁻¹) / (D_1 D_2)."""
    first, second = torch.linalg.inv(features), torch.linalg.inv(outputs)
    sums = torch.einsum("ias,ij,ab,jbt->st", heads, first, second, heads)
    return sums / (len(features) * len(outputs))


@exercise(
    "6.1.a",
    "Write the update of the tasks' covariance, Σ_3 = W_(3) (Σ_1 ⊗ Σ_2)⁻¹ W_(3)ᵀ / (D_1 D_2), for "
    "heads of the shape (features, outputs, tasks).",
    reference=task_covariance,
    hints=(
        "No Kronecker product is needed: multiply the axis of the features by Σ_1⁻¹, that of the "
        "outputs by Σ_2⁻¹, and take inner products of tasks.",
        "torch.einsum('ias,ij,ab,jbt->st', ...) does all at once.",
    ),
)
def check_task_covariance(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Accept the update for one output and for several."""
    for outputs in (1, 2):
        heads = torch.arange(3 * outputs * 4, dtype=torch.float64).sin().view(3, outputs, 4)
        first = torch.eye(3, dtype=torch.float64) + 0.5
        second = 2 * torch.eye(outputs, dtype=torch.float64) + 0.3
        found = answer(heads.clone(), first.clone(), second.clone())
        if tuple(found.shape) != (4, 4):
            raise WrongAnswer("Σ_3 has a row and a column for each of the tasks")
        expected = task_covariance(heads, first, second)
        flat = heads.flatten(0, 1)
        if torch.allclose(found, flat.T @ flat / len(flat)):
            raise WrongAnswer("this is the update for Σ_1 = Σ_2 = I: where are the other two?")
        if torch.allclose(found, expected * len(flat)):
            raise WrongAnswer("divide by D_1 D_2, the number of weights of a task")
        inverse = torch.linalg.inv
        if torch.allclose(found, task_covariance(heads, inverse(first), inverse(second))):
            raise WrongAnswer("the other covariances stand inverted in the update")
        if not torch.allclose(found, expected):
            raise WrongAnswer(
                "an entry is the inner product of two tasks, weighted by Σ_1⁻¹, Σ_2⁻¹"
            )


def mean_regularisation(tasks: int, l2: float, distance: float) -> Float[Tensor, "tasks tasks"]:
    """Σ_3 = (a I + 2b (T I − 11ᵀ))⁻¹."""
    unit = torch.eye(tasks, dtype=torch.float64)
    ones = torch.ones(tasks, tasks, dtype=torch.float64)
    return torch.linalg.inv(l2 * unit + 2 * distance * (tasks * unit - ones))


@exercise(
    "6.1.b",
    "Section 3.2 is a special case. Give the Σ_3, (tasks, tasks), for which the prior "
    "½ vec(𝒲)ᵀ (I ⊗ I ⊗ Σ_3)⁻¹ vec(𝒲) is ½ a ‖𝒲‖² + b Σ_{s<t} ‖W_s − W_t‖².",
    reference=mean_regularisation,
    hints=(
        "Find the precision Σ_3⁻¹ first: it is the matrix of a quadratic form over the tasks.",
        "Σ_{s<t} (w_s − w_t)² is wᵀ (T I − 11ᵀ) w. Mind the ½ in front of the prior.",
    ),
)
def check_mean_regularisation(answer: Callable[[int, float, float], Tensor]) -> None:
    """Accept the covariance whose energy is the penalty, for two tasks and for five."""
    for tasks, l2, distance in ((2, 1.0, 0.5), (5, 0.3, 2.0)):
        found = answer(tasks, l2, distance).double()
        if tuple(found.shape) != (tasks, tasks):
            raise WrongAnswer(f"a covariance of {tasks} tasks has {tasks} rows and columns")
        expected = mean_regularisation(tasks, l2, distance)
        if torch.allclose(found, torch.linalg.inv(expected)):
            raise WrongAnswer("this is the precision: Σ_3 is its inverse")
        if torch.allclose(found, mean_regularisation(tasks, l2, distance / 2)):
            raise WrongAnswer("the prior carries a factor ½, the distance does not")
        if not torch.allclose(found, expected):
            raise WrongAnswer("write the sum over pairs as a quadratic form wᵀ M w of the tasks")


prediction(
    "6.1.c",
    "Let all six tasks have the same sign, opposed = 0. What happens to the reduction of the loss "
    "by a learnt covariance against the squared distance?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls, to about nothing: where all correlations are positive, weights that are "
    "kept close say nearly what the learnt covariance says.",
    hints=("What is the best distance between the weights of two tasks that correlate at 0.9?",),
)
