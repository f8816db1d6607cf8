"""DualProj: the mean gradient, made to conflict with no task; GEM's rule."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import nnls

from mtlbook.balancing.rule import GramianRule
from mtlbook.balancing.solving import cosines, root


class DualProjection(GramianRule):
    """The projection of the mean gradient onto the dual cone {d: <g_t, d> ≥ 0 for all t}.

    Lopez-Paz and Ranzato (2017), equation 11, who project the present task's gradient against
    those of remembered tasks. Of all vectors along which no loss grows it is the nearest to the
    mean. UPGrad projects each gradient, and takes the mean of those.
    """

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights v of min vᵀGv with v ≥ 1/K."""
        return projected(gramian, np.full(len(gramian), 1 / len(gramian)))


def projected(
    gramian: Float[ndarray, "k k"], weights: Float[ndarray, " k"]
) -> Float[ndarray, " k"]:
    """The weights v ≥ u of the projection of Σ_t u_t g_t: v = u + z, min ‖R (u + z)‖ over z ≥ 0."""
    unit, norms = cosines(gramian)
    scaled = weights * norms
    if not scaled.any():
        return weights
    factor = root(unit)
    # In units of the longest summand, and of unit gradients: norms of any size cost no digits.
    added, _ = nnls(factor, -factor @ (scaled / scaled.max()))
    return weights + scaled.max() * np.divide(
        added, norms, out=np.zeros_like(norms), where=norms > 0
    )
