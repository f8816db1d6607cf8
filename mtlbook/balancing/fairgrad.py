"""FairGrad: of each task's gain, as much as α-fairness grants; with α = 1 it is Nash-MTL."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mtlbook.balancing.mgda import min_norm_weights
from mtlbook.balancing.rule import GramianRule
from mtlbook.balancing.solving import RESOLUTION, cosines
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

ROUNDS = 200
SMALL_STEP, ROUNDING = 1e-4, 1e-13
ARMIJO = 1e-4


class FairGrad(GramianRule):
    """The weights w > 0 with Gw = w^(-1/α), elementwise.

    Ban and Ji (2024), equation 8: d = Σ_t w_t g_t maximises the tasks' α-fair utilities
    Σ_t <g_t, d>^(1-α) / (1 - α) in a ball. α → 0 gives w = 1, the sum of the gradients; α = 1 is
    Nash-MTL; α → ∞ equal gains <g_t, d>. Orthogonal gradients have w_t = ‖g_t‖^(-2α / (1 + α)).

    Where no direction serves every task (a non-negative combination of the gradients is 0) there
    are no such weights: those of MGDA on the unit gradients are taken, along which nothing moves.
    A task whose gradient is 0 takes no part. The paper solves by `least_squares` on G itself, which
    leaves large residuals where the gradients are small.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        fairness: α.
        heads: whether heads follow their own losses, or the weighted ones.

    Raises:
        UsageError: for an α that is not positive.
    """

    def __init__(
        self,
        tasks: Sequence[Task | str],
        fairness: float = 2.0,
        heads: Literal["weighted", "own"] = "own",
    ) -> None:
        super().__init__(tasks, heads)
        if not 0 < fairness < float("inf"):
            raise UsageError(f"fairness is a positive number, not {fairness}.")
        self.fairness = fairness

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights w."""
        return fair_weights(gramian, self.fairness)


def fair_weights(gramian: Float[ndarray, "k k"], fairness: float) -> Float[ndarray, " k"]:
    """The solution of Gw = w^(-1/α), the minimum of a strictly convex function.

    Its derivative is Gw - w^(-1/α), and Newton's method finds it from orthogonal gradients' weights
    v_t = ‖g_t‖^(-2α / (1 + α)). In b_t = w_t ‖g_t‖, with C the gradients' cosines, the equation is
    Cb = s (b / s)^(-1/α), s_t = v_t ‖g_t‖: norms of any size cost no digits.
    """
    unit, norms = cosines(gramian)
    present = norms > 0
    weights = np.zeros_like(norms)
    if not present.any():
        return weights
    unit, norms = unit[np.ix_(present, present)], norms[present]
    shortest = min_norm_weights(unit)
    if shortest @ unit @ shortest < RESOLUTION**2:
        weights[present] = shortest / norms
        return weights
    power = 1 / fairness
    scale = norms ** (1 - 2 / (1 + power))
    weights[present] = _newton(unit, scale, power) / norms
    return weights


def _newton(
    unit: Float[ndarray, "k k"], scale: Float[ndarray, " k"], power: float
) -> Float[ndarray, " k"]:
    """min_b ½ bᵀCb - Σ_t s_t² ψ(b_t / s_t) with ψ' = r^(-p): Newton's method, damped."""

    def value(b: Float[ndarray, " k"]) -> float:
        ratio = b / scale
        utility = np.log(ratio) if power == 1 else ratio ** (1 - power) / (1 - power)
        return float(b @ unit @ b / 2 - scale**2 @ utility)

    b = scale.copy()
    for _ in range(ROUNDS):
        ratio = b / scale
        slope = unit @ b - scale * ratio**-power
        step = np.linalg.solve(unit + np.diag(power * ratio ** (-power - 1)), -slope)
        length = min(1.0, 0.99 / max(np.max(-step / b), 0.99))
        # Where only rounding is left no value falls any further: the last steps are whole.
        far = np.abs(step / b).max() > SMALL_STEP
        while far and value(b + length * step) > value(b) + ARMIJO * length * (slope @ step):
            length /= 2
        b = b + length * step
        if np.abs(step / b).max() < ROUNDING:
            break
    return b
