"""Aligned-MTL: the gradients' principal components, all made as long as the shortest."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mtlbook.balancing.rule import GramianRule


class AlignedMTL(GramianRule):
    """a = √λ_min V Λ^(-½) Vᵀ 1, with G = V Λ Vᵀ and λ_min its smallest eigenvalue above rounding.

    Senushkin, Patakin, Kuznetsov and Konushin (2023), equation 12. The aligned gradients
    ĝ = √λ_min V Λ^(-½) Vᵀ J are orthogonal and of one length, that of the least principal
    component (their Gramian is λ_min I), and d is their sum. Orthogonal gradients have
    a_t = min_s ‖g_s‖ / ‖g_t‖. Nearly dependent gradients make short steps.
    """

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights a."""
        return aligning(gramian).sum(0)


def aligning(gramian: Float[ndarray, "k k"]) -> Float[ndarray, "k k"]:
    """The matrix A that turns gradients into aligned ones, ĝ_i = Σ_j A_ij g_j; it is symmetric."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > len(values) * np.finfo(float).eps * max(values[-1], 0)
    if not kept.any():
        return np.zeros_like(gramian)
    values, vectors = values[kept], vectors[:, kept]
    return (vectors * np.sqrt(values[0] / values)) @ vectors.T
