"""UPGrad: each gradient is made to conflict with none, then their mean is taken."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import nnls
from torch import Tensor

from mtlbook.balancing.solving import cosines, root, weights_by
from mtlbook.combiner import Combiner, Evidence
from mtlbook.tasks import Task


class UPGrad(Combiner):
    """The mean of the tasks' gradients, each projected onto the dual cone {d: <g_t, d> ≥ 0 ∀ t}.

    Quinton and Rey (2024), definition 3: what is projected is nearest to g_i among all vectors
    along which no loss grows, and so no loss grows along their mean. Without conflict it is the
    mean of the gradients. A gradient times κ gives a projection times κ: larger losses count more.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        heads: whether heads follow their own losses, or the weighted ones.
    """

    gramian_at = "shared"

    def __init__(
        self, tasks: Sequence[Task | str], heads: Literal["weighted", "own"] = "own"
    ) -> None:
        super().__init__(tasks)
        self.heads = heads

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The mean of the projections' weights, of each replica."""
        return weights_by(lambda gramian: projections(gramian).mean(0), evidence, self)


def projections(gramian: Float[ndarray, "k k"]) -> Float[ndarray, "k k"]:
    """By row i the weights v of the projection of g_i: min_v vᵀGv with v ≥ e_i (their prop. 1).

    With v = e_i + z this is min ‖G^½ (e_i + z)‖² over z ≥ 0, a non-negative least-squares problem,
    solved in unit gradients.
    """
    unit, norms = cosines(gramian)
    factor = root(unit)
    added = np.zeros_like(unit)
    # Where a gradient conflicts with none it is its own projection.
    for i in np.flatnonzero((unit < 0).any(1)):
        added[i], _ = nnls(factor, -factor[:, i])
    ratios = np.divide(norms[:, None], norms, out=np.zeros_like(unit), where=norms > 0)
    return np.eye(len(unit)) + added * ratios
