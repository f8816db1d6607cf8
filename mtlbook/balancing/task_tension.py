"""CDTT: a common direction, pulled towards the tasks that converge slowly."""

from collections.abc import Sequence
from math import e
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from mtlbook.balancing.mgda import min_norm_weights
from mtlbook.balancing.solving import cosines, gramian_of, weights_by
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.weighting.geometric import check_positive


class TaskTension(Combiner):
    """d = c + Σ_t T_t (g_t - c) / ‖g_t - c‖: a unit pull to each gradient, times its tension.

    Mizuno Nakamura, Grassi and Wolf (2022). The common direction c is that of the shortest vector
    between the unit gradients, Σ_t a_t u_t, with the length 1 / Σ_t (a_t / ‖g_t‖). The tension is
    T = α / (1 + exp(e (1 - k))) + 1 - α, at least 0, where k_t adds the ratio of the task's mean
    gradient norm in the last window to that in the window before, and log₁₀ L_t. Then, task by
    task, where <g_t, d> < 0, d turns to the nearest direction at a right angle to g_t.

    Until two windows are over, d = c. α = 0 is no pull by convergence, but the same pull of 1 to
    every task. Turning to one task may leave d in conflict with an earlier one. The authors' code
    moves both windows by one step each time, so that they overlap and their ratio is nearly 1.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses, in which d turns to them.
        sensitivity: α.
        window: steps of a window.
        heads: whether heads follow their own losses, or the weighted ones.

    Attributes:
        sums: of the gradient norms in the present window, the last, and the one before.
        steps: how many there were.

    Raises:
        UsageError: for a negative sensitivity or an empty window; in `weigh` for a loss that is
            not positive.
    """

    gramian_at = "shared"
    sums: Float[Tensor, "*replicas 3 tasks"]
    steps: Int[Tensor, "*replicas"]

    def __init__(
        self,
        tasks: Sequence[Task | str],
        sensitivity: float = 0.5,
        window: int = 10,
        heads: Literal["weighted", "own"] = "own",
    ) -> None:
        super().__init__(tasks)
        if not 0 <= sensitivity < float("inf"):
            raise UsageError(f"sensitivity is a number of at least 0, not {sensitivity}.")
        if window < 1:
            raise UsageError(f"A window has at least one step, not {window}.")
        self.sensitivity, self.window, self.heads = sensitivity, window, heads
        self.register_buffer("sums", torch.zeros(3, len(self.tasks), dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(0))

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights of d; then the step's norms count for the present window."""
        check_positive(self, evidence)
        tension = self._tension(evidence.losses.double().cpu())
        weights = weights_by(tensioned, evidence, self, tension)
        if self.training:
            gramian = gramian_of(evidence, self).detach().double().cpu()
            self._remember(gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt())
        return weights

    def _tension(self, losses: Float[Tensor, "*r tasks"]) -> Float[Tensor, "*r tasks"]:
        """T of each task; 0 before two windows are over."""
        last, before = self.sums[..., 1, :].double().cpu(), self.sums[..., 2, :].double().cpu()
        k = (last / before).nan_to_num(nan=1.0, posinf=1.0) + losses.log10()
        tension = self.sensitivity * torch.sigmoid(e * (k - 1)) + 1 - self.sensitivity
        over = (self.steps >= 2 * self.window).cpu()[..., None]
        return tension.clamp(min=0).where(over, 0)

    def _remember(self, norms: Float[Tensor, "*r tasks"]) -> None:
        self.sums[..., 0, :] += norms.to(self.sums)
        self.steps += 1
        full = (self.steps % self.window == 0)[..., None, None]
        shifted = torch.cat([torch.zeros_like(self.sums[..., :1, :]), self.sums[..., :2, :]], -2)
        self.sums = torch.where(full, shifted, self.sums)


def tensioned(
    gramian: Float[ndarray, "k k"], tension: Float[ndarray, " k"]
) -> Float[ndarray, " k"]:
    """The weights of d from the gradients' Gramian and the tensions.

    A vector Σ_t w_t g_t is its weights w throughout: inner products are wᵀGw'.
    """
    unit, norms = cosines(gramian)
    if not norms.all():
        return np.zeros_like(norms)  # the common direction has the length of the shortest, 0
    shares = min_norm_weights(unit)
    common = shares / norms / (shares / norms).sum()
    apart = np.eye(len(norms)) - common
    lengths = np.sqrt(np.clip(np.einsum("ti,ij,tj->t", apart, gramian, apart), 0, None))
    # A gradient that is the common direction pulls nowhere.
    pulls = lengths > np.finfo(float).eps ** 0.5 * norms.max()
    factors = np.divide(tension, lengths, out=np.zeros_like(norms), where=pulls)
    weights = common + factors @ apart
    for task, norm in enumerate(norms):
        product = weights @ gramian[task]
        if product < 0:
            share = product / (product - norm**2)
            weights = (1 - share) * weights
            weights[task] += share
    return weights
