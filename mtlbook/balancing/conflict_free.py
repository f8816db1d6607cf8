"""ConFIG: the direction at the same angle to every gradient, as long as the gradients reach."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mtlbook.balancing.imtl import equal_projections
from mtlbook.balancing.rule import GramianRule


class ConFIG(GramianRule):
    """d = (Σ_t <g_t, x>) x, with x the unit vector of equal positive cosines with all g_t.

    Liu, Chu and Thuerey (2025), equations 2 and 3. Its direction is IMTL-G's where that has the
    right sign; its length is the sum of the gradients' own. Larger losses make a longer step of the
    same direction. Gradients that depend on each other linearly have the direction whose cosines
    are nearest to equal; where that is 0, as for opposite gradients, so is d. A task whose gradient
    is 0 takes no part.
    """

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights of d."""
        direction, cosines, norms = equal_projections(gramian)
        square = direction @ cosines
        if square <= 0:
            return np.zeros_like(norms)
        length = norms @ cosines / square
        return length * np.divide(direction, norms, out=np.zeros_like(norms), where=norms > 0)
