"""Exercises of section 7.2, an adversarial auxiliary task."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.auxiliary.adversarial import warm_up
from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def reversal(x: Float[Tensor, "*shape"], strength: float) -> Float[Tensor, "*shape"]:
    """The difference is 0 and has the gradient −λ; the first term has none."""
    return x.detach() + strength * (x.detach() - x)


@exercise(
    "7.2.a",
    "Write a function of a tensor and of λ that returns the tensor, and whose gradient is −λ times "
    "the one that arrives.",
    reference=reversal,
    hints=(
        "`x.detach()` has the value of `x` and no gradient.",
        "Add to it something that is 0 and has the gradient that you want.",
    ),
)
def check_reversal(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Accept the identity with a reversed gradient, also for λ = 0 and for a λ other than 1."""
    for strength in (1.0, 0.3, 0.0):
        x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
        value = answer(x, strength)
        if not isinstance(value, Tensor) or not torch.allclose(value, x):
            raise WrongAnswer("forward the layer does nothing: its value is x itself")
        if not value.requires_grad:
            raise WrongAnswer("no gradient gets through: some term must still depend on x")
        (gradient,) = torch.autograd.grad(value.pow(3).sum(), x, allow_unused=True)
        plain = 3 * x.detach() ** 2
        if gradient is None:
            raise WrongAnswer("no gradient gets through: some term must still depend on x")
        if torch.allclose(gradient, plain) and strength != -1:
            raise WrongAnswer("the gradient arrives as it was: its sign must be reversed")
        if not torch.allclose(gradient, -strength * plain):
            raise WrongAnswer(
                f"for λ = {strength:g} the gradient must be {-strength:g} times the one that "
                "arrives: count what each term contributes"
            )


def progress_of(strength: float) -> float:
    """From 1 + exp(−10 p) = 2 / (1 + λ)."""
    return -math.log(2 / (1 + strength) - 1) / 10


@exercise(
    "7.2.b",
    "At which progress p does the schedule λ_p = 2 / (1 + exp(−10 p)) − 1 reach a given λ?",
    reference=progress_of,
    hints=("Solve the equation for exp(-10 p) first.",),
)
def check_progress_of(answer: Callable[[float], float]) -> None:
    """Accept the inverse of the schedule between 0 and 1."""
    if abs(answer(0.0)) > 1e-9:
        raise WrongAnswer("λ is 0 at the very start: your answer for λ = 0 must be 0")
    for strength in (0.2, 0.5, 0.9):
        progress = torch.tensor(float(answer(strength)), dtype=torch.float64)
        reached = float(warm_up(progress))
        if not abs(reached - strength) <= 1e-6:
            raise WrongAnswer(
                f"for λ = {strength:g} you say p = {float(progress):.4g}, and there the schedule "
                f"has λ = {reached:.4g}: mind the factor 10 and the sign in the exponent"
            )


def least_sum_of_errors(source: float, target: float) -> float:
    """Each domain errs at least by |q − its share|; between the shares the sum is least."""
    return abs(source - target)


@exercise(
    "7.2.c",
    "Two classes, of which class 1 has the share `source` in one domain and `target` in the other. "
    "What is the least sum of the two error rates, if the predictions are distributed alike?",
    reference=least_sum_of_errors,
    hints=(
        "Let a share q of the predictions be 1, the same in both domains.",
        "How large must the error in a domain be at least if the share of its labels is not q?",
    ),
)
def check_least_sum_of_errors(answer: Callable[[float, float], float]) -> None:
    """Accept the distance of the shares."""
    if abs(answer(0.3, 0.3)) > 1e-12:
        raise WrongAnswer("with equal proportions invariant predictions can be right everywhere")
    if abs(answer(0.0, 1.0) - 1) > 1e-9:
        raise WrongAnswer(
            "let all of the source be of class 0 and all of the target of class 1: predictions "
            "that are alike in both are right about a share q of the one and 1 − q of the other"
        )
    for source, target in ((0.2, 0.7), (0.9, 0.4), (0.5, 0.1)):
        if abs(answer(source, target) - abs(source - target)) > 1e-9:
            raise WrongAnswer(
                "if a share q of the predictions is 1, a domain in which a share p of the labels "
                "is 1 has at least an error of |q − p|: add up both domains, and choose q"
            )


prediction(
    "7.2.d",
    "The two domains become alike. What happens to the number of errors on the target that the "
    "reversal removes?",
    choices=DIRECTIONS,
    answer="falls",
    because="Training on the source alone errs the less on the target the more alike the two are, "
    "and a domain head that finds nothing to tell them apart has nothing to take away. Where they "
    "do not differ at all the reversal removes no errors.",
    hints=("How many errors does the distance between the domains cause at each place?",),
)
