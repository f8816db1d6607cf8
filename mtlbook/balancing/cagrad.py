"""CAGrad and SDMGrad: the task that gains least gains most, not far from the mean gradient."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import brentq

from mtlbook.balancing.mgda import min_norm_weights
from mtlbook.balancing.rule import GramianRule
from mtlbook.balancing.solving import RESOLUTION
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

# The pull to the mean at which a Pareto-stationary point is looked at, of its natural unit.
LEAST_PULL = 1e-8


class CAGrad(GramianRule):
    """max_d min_t <g_t, d> with ‖d - g₀‖ ≤ c ‖g₀‖, g₀ the mean gradient.

    Liu, Liu, Jin, Stone and Liu (2021), equation 3. The dual is min_w <g_w, g₀> + c ‖g₀‖ ‖g_w‖
    over weights w ≥ 0 of sum 1, with g_w = Σ_t w_t g_t, and d = g₀ + c ‖g₀‖ g_w / ‖g_w‖. c = 0 is
    the mean; c → ∞ has MGDA's direction; with c < 1 the mean of the losses is what falls, and a
    task may still be made worse. Where g₀ = 0, so is d. The authors' code may divide d by 1 + c².

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        radius: c, the authors' 0.4 by default.
        heads: whether heads follow their own losses, or the weighted ones.

    Raises:
        UsageError: for a negative radius.
    """

    def __init__(
        self,
        tasks: Sequence[Task | str],
        radius: float = 0.4,
        heads: Literal["weighted", "own"] = "own",
    ) -> None:
        super().__init__(tasks, heads)
        if not 0 <= radius < float("inf"):
            raise UsageError(f"radius is a number of at least 0, not {radius}.")
        self.radius = radius

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights of d."""
        return conflict_averse_weights(gramian, self.radius)


class SDMGrad(GramianRule):
    """d = (g_w + λ g₀) / (1 + λ) with w ≥ 0 of sum 1 that minimises ‖g_w + λ g₀‖.

    Xiao, Ban and Ji (2023), equation 4: MGDA with a pull to the mean gradient g₀. λ = 0 is MGDA,
    λ → ∞ the mean. Here w is the minimum for the step's own Gramian; the paper follows it by a few
    stochastic steps with two further batches, which makes their gradient unbiased.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        pull: λ, the authors' 0.3 by default.
        heads: whether heads follow their own losses, or the weighted ones.

    Raises:
        UsageError: for a negative pull.
    """

    def __init__(
        self,
        tasks: Sequence[Task | str],
        pull: float = 0.3,
        heads: Literal["weighted", "own"] = "own",
    ) -> None:
        super().__init__(tasks, heads)
        if not 0 <= pull < float("inf"):
            raise UsageError(f"pull is a number of at least 0, not {pull}.")
        self.pull = pull

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights of d."""
        weights = pulled_weights(gramian, self.pull)
        return (weights + self.pull / len(gramian)) / (1 + self.pull)


def pulled_weights(gramian: Float[ndarray, "k k"], pull: float) -> Float[ndarray, " k"]:
    """min_w ‖g_w + λ g₀‖: the shortest vector between the vectors g_t + λ g₀."""
    to_mean = gramian.mean(1)
    pulled = gramian + pull * (to_mean + to_mean[:, None]) + pull**2 * to_mean.mean()
    return min_norm_weights(pulled)


def conflict_averse_weights(gramian: Float[ndarray, "k k"], radius: float) -> Float[ndarray, " k"]:
    """The weights of CAGrad's d, by MGDA and one root.

    Where w minimises ‖g_w + μ g₀‖ and ‖g_w‖ = μ c ‖g₀‖, the conditions of the dual hold, and
    d = g₀ + g_w / μ. The root μ lies between the shortest vector and the longest gradient over
    c ‖g₀‖. At a Pareto-stationary point it may be 0; d is then its limit, inside of the ball.
    """
    tasks = len(gramian)
    mean = np.full(tasks, 1 / tasks)
    length = np.sqrt(max(mean @ gramian @ mean, 0.0))
    longest = np.sqrt(gramian.diagonal().max())
    if not radius or length <= RESOLUTION * longest:
        return mean
    reach = radius * length

    def left(pull: float) -> float:
        weights = pulled_weights(gramian, pull)
        return float(np.sqrt(max(weights @ gramian @ weights, 0.0)) - pull * reach)

    most = longest / reach
    least = LEAST_PULL * most
    inside = left(least) <= 0
    pull = least if inside else float(np.asarray(brentq(left, least, 2 * most, xtol=1e-15 * most)))
    return mean + pulled_weights(gramian, pull) / pull
