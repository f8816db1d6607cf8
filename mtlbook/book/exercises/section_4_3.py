"""The exercises of section 4.3, eavesdropping."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def heard(
    own: Float[Tensor, "inputs features"],
    other: Float[Tensor, "inputs features"],
    overlap: float,
) -> Float[Tensor, "inputs features"]:
    """Directions of length 1 whose cosine with the hard task's is the overlap."""
    return overlap * own + (1 - overlap**2) ** 0.5 * other


@exercise(
    "4.3.a",
    "Return the directions of the easy task's features at a given overlap with the hard task's.",
    reference=heard,
    hints=(
        "The easy task's features must keep variance 1, or it becomes a noisier task.",
        "The two weights' squares add up to 1.",
    ),
)
def check_heard(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Accept orthonormal directions with the right cosine, from the ends of the dial to between."""
    basis = torch.linalg.qr(torch.arange(36, dtype=torch.float64).view(9, 4).sin())[0]
    own, other = basis[:, :2], basis[:, 2:]
    for overlap in (1.0, 0.0, 0.6):
        directions = answer(own.clone(), other.clone(), overlap)
        if directions.shape != own.shape:
            raise WrongAnswer("the easy task has as many features of as many inputs as the hard")
        if not torch.allclose((own.T @ directions).diag(), own.new_full((2,), overlap)):
            raise WrongAnswer(
                f"at the overlap {overlap:g} the scalar product of a direction with the hard "
                "task's own must be that number"
            )
        if not torch.allclose(directions.norm(dim=0), own.new_ones(2)):
            raise WrongAnswer(
                "the directions must keep the length 1: squared weights add up, the weights don't"
            )
        if not torch.allclose(directions, heard(own, other, overlap)):
            raise WrongAnswer("what is not the hard task's own must come from the other directions")


def convexity(
    first: Float[Tensor, "examples outputs"],
    second: Float[Tensor, "examples outputs"],
    middle: Float[Tensor, "examples outputs"],
) -> Float[Tensor, ""]:
    """The mean of max(0, f((x + x') / 2) − (f(x) + f(x')) / 2)²."""
    return (middle - (first + second) / 2).clamp(min=0).square().mean()


@exercise(
    "4.3.b",
    "Write the error of the hint that the target is convex, from values at two points and midway.",
    reference=convexity,
    hints=(
        "Convexity is an inequality, like monotonicity.",
        "Of a convex function the value midway lies below the mean of the two values.",
    ),
)
def check_convexity(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Accept the penalty on a parabola, a line, a cap, and a batch of them."""
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
    other = x.flip(0) + 0.5

    def error(function: Callable[[Tensor], Tensor]) -> Tensor:
        return answer(function(x), function(other), function((x + other) / 2))

    if error(torch.square).ndim:
        raise WrongAnswer("a hint has one error: the mean over the batch")
    if error(torch.square) > 1e-12:
        raise WrongAnswer("a parabola is convex: only a violation counts, so clamp it at 0")
    if error(lambda x: 2 * x + 1).abs() > 1e-12:
        raise WrongAnswer("a straight line is convex: compare with the mean of the two values")
    found = error(lambda x: -x.square())
    expected = ((x - other) / 2).pow(4).mean()  # the cap lies by ((x − x') / 2)² too high
    if torch.isclose(found, expected):
        return
    if found <= 0:
        raise WrongAnswer("−x² is not convex, and your hint does not notice")
    raise WrongAnswer(
        "the violation is f((x + x') / 2) − (f(x) + f(x')) / 2, and it is squared like the others"
    )


def error_with_a_false_hint(strength: float, even_part: float, noise: float) -> float:
    """The even part e that minimises (e − δ)² + λ (2e)² is δ / (1 + 4λ)."""
    missing = even_part * 4 * strength / (1 + 4 * strength)
    return noise**2 + missing**2


@exercise(
    "4.3.c",
    "Which mean squared error is left where a target with an even part is hinted to be odd?",
    reference=error_with_a_false_hint,
    hints=(
        "The odd part of f is not touched by the penalty.",
        "The even part e(x) appears in the penalty as 2 e(x).",
    ),
)
def check_error_with_a_false_hint(answer: Callable[[float, float, float], float]) -> None:
    """Accept σ² + δ² (4λ / (1 + 4λ))²."""
    if abs(answer(0.0, 0.4, 0.5) - 0.25) > 1e-9:
        raise WrongAnswer("without the hint (λ = 0) only the noise is left, σ²")
    if abs(answer(1e9, 0.4, 0.5) - 0.41) > 1e-6:
        raise WrongAnswer("with λ → ∞ the function is odd and all of the even part is missing: δ²")
    for strength in (0.1, 1.0, 5.0):
        expected = error_with_a_false_hint(strength, 0.6, 0.5)
        if abs(answer(strength, 0.6, 0.5) - expected) > 1e-9:
            raise WrongAnswer(
                "at a finite λ the even part only shrinks: minimise (e − δ)² + λ (2e)² over e, and "
                "take the squared error alone, without the penalty"
            )


prediction(
    "4.3.d",
    "The target has an even part, and the hint still says that it is odd. From 20 examples to 320, "
    "where does the error reduction by the hint go?",
    choices=DIRECTIONS,
    answer="falls",
    because="With few examples a wrong bias may still be better than the noise that it keeps out. "
    "More examples take the noise away and leave the bias: the hint costs more and more.",
    hints=("Which part of the error do more examples remove, variance or bias?",),
)
