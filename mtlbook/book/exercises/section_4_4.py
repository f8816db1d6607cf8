"""Exercises of section 4.4, representation bias."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.mechanisms.representation_bias import environment


def joint_minima(c: float) -> list[float]:
    """The minima of two double wells with the centres 0 and c, in ascending order."""
    left = 1 - 3 * c**2 / 4
    if left <= 0:
        return [c / 2]
    return [c / 2 - math.sqrt(left), c / 2 + math.sqrt(left)]


@exercise(
    "4.4.a",
    "Write the function that returns all minima of (θ² − 1)² + ((θ − c)² − 1)² in ascending order.",
    reference=joint_minima,
    hints=(
        "Put u = θ − c/2; the derivative is 8u (u² + 3c²/4 − 1).",
        "For which c is u² = 1 − 3c²/4 possible?",
    ),
)
def check_joint_minima(answer: Callable[[float], list[float]]) -> None:
    """Accept the minima for centres that are near, far and equal."""
    if [round(float(at), 6) for at in answer(2.0)] != [1.0]:
        raise WrongAnswer("for c = 2 the tasks have one minimum in common, at θ = 1, and no other")
    near = [float(at) for at in answer(0.5)]
    if len(near) != 2:
        raise WrongAnswer(
            "for c = 0.5 the factor u² + 3c²/4 − 1 has two zeros, and u = 0 is a maximum between "
            "them: two minima survive"
        )
    if abs(sum(near) - 0.5) > 1e-9:
        raise WrongAnswer("the minima lie on either side of c/2, not of 0: θ = u + c/2")
    for c in (-0.7, 0.0, 0.5, 1.1, 1.2, 3.0):
        found = [float(at) for at in answer(c)]
        wanted = joint_minima(c)
        if len(found) != len(wanted) or max(
            abs(one - other) for one, other in zip(found, wanted, strict=True)
        ) > 1e-9:  # fmt: skip
            raise WrongAnswer(
                f"for c = {c:g} the minima are not right, or not in ascending order: when is "
                "u² = 1 − 3c²/4 possible?"
            )


def explained_share(
    u: Float[Tensor, "inputs features"], w: Float[Tensor, "inputs directions"]
) -> float:
    """The mean over tasks of ‖Wᵀ U a‖²: the mean of a aᵀ is the identity divided by k."""
    return float((w.T @ u).square().sum() / u.shape[1])


@exercise(
    "4.4.b",
    "Write the explained share of the signal's variance, on average over tasks, for a trunk that "
    "spans W in an environment with the representation U.",
    reference=explained_share,
    hints=("Project U a on W.", "What is the mean of a aᵀ over the unit sphere?"),
)
def check_explained_share(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Accept the mean squared cosine, for subspaces of equal and of different dimensions."""

    def span(overlap: float) -> Tensor:
        return environment(0, tasks=["one"], rows=1, overlap=overlap).features["one"]

    home, away, between = span(1.0), span(0.0), span(0.6)
    if abs(float(answer(home, home)) - 1) > 1e-6:
        raise WrongAnswer("a trunk that spans U explains all of the signal: the share is 1")
    if abs(float(answer(home, between)) - 0.6) < 1e-6:
        raise WrongAnswer("variance goes with the square of the cosine")
    if abs(float(answer(home, torch.cat([home[:, :1], away], dim=1))) - 0.25) > 1e-6:
        raise WrongAnswer(
            "a trunk that knows one of the four features explains a quarter, whatever else it "
            "spans: divide by the number of features of U"
        )
    if abs(float(answer(home, between)) - 0.36) > 1e-6:
        raise WrongAnswer("project U a on W, square, and take the mean over all directions of a")


def tasks_needed(a: float, b: float, s: float) -> int:
    """The least K with b / K ≤ s a; the slack keeps rounding from asking for one task more."""
    return max(1, math.ceil(b / (s * a) - 1e-9))


@exercise(
    "4.4.c",
    "Write the smallest whole number of tasks K for which a + b/K is at most (1 + s) a.",
    reference=tasks_needed,
    hints=("b/K must be at most s·a.",),
)
def check_tasks_needed(answer: Callable[[float, float, float], int]) -> None:
    """Accept the least whole number, also where the quotient is whole or below 1."""
    if answer(0.5, 1.0, 0.125) == answer(5.0, 1.0, 0.125):
        raise WrongAnswer("the excess is relative to the floor: a belongs into the quotient")
    if answer(0.5, 1.0, 0.125) != 16:
        raise WrongAnswer("b/K must be at most s·a: for a = 0.5, b = 1, s = 0.125 that is K = 16")
    if answer(0.25, 0.76, 0.125) != 25:
        raise WrongAnswer("K is whole, and rounding down would leave the error above the bound")
    if answer(0.5, 0.0, 0.125) != 1:
        raise WrongAnswer("at least one task must have learnt the representation")


prediction(
    "4.4.d",
    "The centre of the second well moves from 0.5 up to 2. What happens to the number of minima in "
    "which joint training ends?",
    choices=DIRECTIONS,
    answer="falls",
    because="Up to c = 2/√3 ≈ 1.15 the tasks are so alike that they agree on two minima, and the "
    "start decides between them, as for a task alone. Tasks that differ more have only one in "
    "common. Tasks that are too alike do not choose among representations.",
    hints=("How many minima has the sum of two equal wells?",),
)
