"""Exercises of section 6.3, cross-stitch networks."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def mixed_by_channel(
    alpha: Float[Tensor, "columns columns channels"],
    features: Float[Tensor, "columns examples channels height width"],
) -> Float[Tensor, "columns examples channels height width"]:
    """Each channel of each column as a mixture of the columns' channels of the same number."""
    weights = alpha[:, :, None, :, None, None]  # (takes, gives, 1, channels, 1, 1)
    return (weights * features).sum(1)


@exercise(
    "6.3.a",
    "Write the cross-stitch unit with an α for each channel, x̃_ic = Σ_j α_ijc x_jc, for features "
    "of the shape (columns, examples, channels, height, width).",
    reference=mixed_by_channel,
    hints=(
        "Give α axes of length one for the examples, the height and the width.",
        "α[:, :, None, :, None, None] * features has an axis for takers and one for givers.",
    ),
)
def check_mixed_by_channel(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept the unit for two columns and for three."""
    for columns in (2, 3):
        numbers = torch.arange(columns * 2 * 4 * 3 * 3, dtype=torch.float64)
        features = numbers.sin().view(columns, 2, 4, 3, 3)
        alpha = torch.arange(columns**2 * 4, dtype=torch.float64).cos().view(columns, columns, 4)
        mixed = answer(alpha.clone(), features.clone())
        if mixed.shape != features.shape:
            raise WrongAnswer(
                f"the result has the features' own shape, {tuple(features.shape)}, not "
                f"{tuple(mixed.shape)}"
            )
        weighted = alpha[:, :, None, :, None, None] * features
        expected = torch.stack([terms.sum(0) for terms in weighted])
        swapped = torch.einsum("jic,jnchw->inchw", alpha, features)
        if torch.allclose(mixed, swapped):
            raise WrongAnswer("the first axis of α is the column that takes, the second the giver")
        if not torch.allclose(mixed, expected):
            raise WrongAnswer(
                "sum over the giving columns only: each example, pixel and channel stays its own"
            )


def units_of_a_split(shared: int, stages: int) -> Float[Tensor, "stages columns columns"]:
    """Columns that do not mix, until behind the last shared stage both take from the first."""
    units = torch.eye(2, dtype=torch.float64).repeat(stages, 1, 1)
    if shared:
        units[shared - 1] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    return units


@exercise(
    "6.3.b",
    "Give the units, (stages, 2, 2), with which a cross-stitch network of two columns computes "
    "what a split network does: the first stages shared (those of column 1), the others apart.",
    reference=units_of_a_split,
    hints=(
        "Most units are the identity: only one has something to do.",
        "Behind the last shared stage both columns go on from what column 1 computed.",
    ),
)
def check_units_of_a_split(answer: Callable[[int, int], Tensor]) -> None:
    """Accept any units with which both predictions are those of the split network."""
    for shared, stages in ((0, 3), (1, 3), (2, 3), (3, 3)):
        units = answer(shared, stages)
        if tuple(units.shape) != (stages, 2, 2):
            raise WrongAnswer(f"there is a 2 × 2 unit behind each of the {stages} stages")
        first, second = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([7.0, 11.0, 13.0])
        columns = torch.ones(2, dtype=torch.float64)
        for stage in range(stages):
            computed = torch.stack([first[stage] * columns[0], second[stage] * columns[1]])
            columns = units[stage].double() @ computed
        alone = first[:stages].prod()
        split = first[:shared].prod() * second[shared:stages].prod()
        if not torch.isclose(columns[0], alone.double()):
            raise WrongAnswer("task 1 uses column 1 from the bottom to the top, and nothing else")
        if not torch.isclose(columns[1], split.double()):
            raise WrongAnswer(
                f"with {shared} of {stages} stages shared, task 2 takes what column 1 computed "
                "there, and its own column's stages behind: which unit switches over?"
            )


def gradient_of_alpha(
    features: Float[Tensor, "columns examples channels"],
    gradient: Float[Tensor, "columns examples channels"],
) -> Float[Tensor, "columns columns"]:
    """∂L/∂α_ij = Σ (∂L/∂x̃_i) x_j over all examples and channels."""
    return gradient.flatten(1) @ features.flatten(1).T


@exercise(
    "6.3.c",
    "Write the gradient of the loss by a layer's α from the features x and the loss's gradient by "
    "the mixtures x̃, both of the shape (columns, examples, channels).",
    reference=gradient_of_alpha,
    hints=(
        "By the chain rule, ∂x̃_i / ∂α_ij = x_j at each example and channel.",
        "A matrix product of both, flattened behind the first axis, sums over all places.",
    ),
)
def check_gradient_of_alpha(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept what automatic differentiation gives."""
    features = torch.arange(24, dtype=torch.float64).sin().view(2, 4, 3)
    gradient = torch.arange(24, dtype=torch.float64).cos().view(2, 4, 3)
    found = answer(features.clone(), gradient.clone())
    if tuple(found.shape) != (2, 2):
        raise WrongAnswer("a layer has one α for each pair of columns: sum over all else")
    alpha = torch.eye(2, dtype=torch.float64).requires_grad_()
    (torch.einsum("ij,jnc->inc", alpha, features) * gradient).sum().backward()
    assert alpha.grad is not None
    if torch.allclose(found, alpha.grad.T):
        raise WrongAnswer("transposed: α_ij multiplies the x of column j in the mixture i")
    if torch.allclose(found * features[0].numel(), alpha.grad):
        raise WrongAnswer("the sum over examples and channels, not the mean: α is used in each")
    if not torch.allclose(found, alpha.grad):
        raise WrongAnswer("by the chain rule, ∂L/∂α_ij sums ∂L/∂x̃_i times x_j over all places")


prediction(
    "6.3.d",
    "Give the task with few labels ten times as many, labels = 600. What happens to the relative "
    "reduction of its loss by cross-stitch units?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: with 600 labels the task's own column learns the common features by itself, "
    "and the other column has little to add.",
    hints=("What can the other column know that 600 labels cannot tell?",),
)
