"""Exercises of section 8.4, the scalarisation critique."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import WrongAnswer, exercise, prediction
from mtlbook.weighting.linear_front import reached_by_weights


def direction_of_weights(
    fits: Float[Tensor, "tasks tasks"], weights: Float[Tensor, " tasks"]
) -> Float[Tensor, " tasks"]:
    """The first eigenvector of Σ_t w_t ŷ_t ŷ_tᵀ."""
    return reached_by_weights(fits, weights)


@exercise(
    "8.4.a",
    "Write the direction z that minimises Σ_t w_t u_t(z), from the unit fits (a row a task) and "
    "the weights.",
    reference=direction_of_weights,
    hints=(
        "Σ_t w_t u_t(z) = Σ_t w_t - zᵀ (Σ_t w_t ŷ_t ŷ_tᵀ) z, and z has length 1.",
        "torch.linalg.eigh gives eigenvalues in ascending order, eigenvectors as columns.",
    ),
)
def check_direction_of_weights(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept the direction and its opposite."""
    fits = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, -0.6, 0.8]], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    found = answer(fits.clone(), weights.clone())
    if tuple(found.shape) != (3,):
        raise WrongAnswer("a direction has a coordinate for each of the three")
    products = (weights[:, None] * fits).T @ fits
    vectors = torch.linalg.eigh(products).eigenvectors
    unit = found.double() / found.norm()
    if torch.isclose((unit @ vectors[:, 0]).abs(), unit.new_tensor(1.0)):
        raise WrongAnswer("that is the worst direction: the last eigenvalue is the largest")
    swapped = torch.linalg.eigh((weights[:, None] * fits.T).T @ fits.T).eigenvectors[:, -1]
    rows = torch.linalg.eigh(torch.einsum("t,it,jt->ij", weights, fits, fits)).eigenvectors[:, -1]
    if max(float((unit @ own).abs()) for own in (swapped, rows)) > 1 - 1e-9:
        raise WrongAnswer("a task's fit is a row of the matrix, not a column")
    if not torch.isclose((unit @ vectors[:, -1]).abs(), unit.new_tensor(1.0)):
        raise WrongAnswer("the best direction is an eigenvector of Σ_t w_t ŷ_t ŷ_tᵀ")


prediction(
    "8.4.b",
    "Three tasks whose coefficients have a cosine of +0.3 with each other share one unit. Do fixed "
    "weights leave a gap in the front?",
    choices=("gap", "no gap"),
    answer="no gap",
    because="No gap: with acute angles between all fits the optimal directions fill the triangle "
    "between the three, and each of them is the first eigenvector for some weights.",
    hints=("Which directions serve all three tasks at once, and are there weights for them?",),
)
