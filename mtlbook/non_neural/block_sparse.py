r"""Section 5.1, block-sparse regularisation: all tasks use the same few features.

The ℓ1/ℓq norm ‖W‖_{1,q} = Σ_j ‖w^j‖_q adds up the norms of the rows of W (features × tasks), each
of which holds one feature's weights over all tasks. Like the lasso over features, it makes most
rows exactly 0, for all tasks at once. With q = 2 (the group lasso: Yuan and Lin, 2006; Obozinski,
Taskar and Jordan, 2010) the weights within a kept row are free to differ; with q = ∞ (Turlach,
Venables and Wright, 2005; Negahban and Wainwright, 2008) only the largest of them costs anything,
so that all tasks are drawn to the same magnitude. With q = 1 the tasks have nothing to do with each
other: it is a lasso for each.

Notation differs: what Ruder (2017) writes ℓ1/ℓq is the ℓ_{q,1} or L_{q,1} of other papers.
Standardise the features first, else the penalty depends on their units.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mtlbook.non_neural.linear_model import MultiTaskLinearModel
from mtlbook.non_neural.proximal_gradient import RowPenalty, Weights


@dataclass(eq=False, repr=False)
class BlockSparseRegression(MultiTaskLinearModel):
    r"""Least squares with the ℓ1/ℓq penalty, q = 1, 2 or ∞ (Obozinski, Taskar and Jordan, 2010).

    Minimises Σ_t 1/(2 n_t) ‖y_t − X_t w_t − c_t‖² + α Σ_j ‖w^j‖_q. With q = 2 and a shared design
    that is the objective of scikit-learn's `MultiTaskLasso`; with one task, for every q, that of
    `Lasso`.

    Arguments:
        alpha: α > 0.
        q: 1 (a lasso for each task), 2 or `math.inf`.
        fit_intercept, max_iter, tol, warm_start: see `MultiTaskLinearModel`, also for attributes.

    Example:
        Two tasks with 40 and 30 examples of their own use the same two of six features.

        >>> source = np.random.default_rng(0)
        >>> X, tasks = source.normal(size=(70, 6)), np.repeat(["maize", "wheat"], [40, 30])
        >>> y = np.where(tasks == "maize", X @ [3, 0, 0, 0, 1, 0], X @ [1, 0, 0, 0, -2, 0])
        >>> model = BlockSparseRegression(alpha=0.1).fit(X, y, tasks=tasks)
        >>> np.flatnonzero(model.coef_.any(axis=0))
        array([0, 4])
        >>> model.predict(X[:2], tasks=["maize", "wheat"]).shape
        (2,)
    """

    alpha: Any = 1.0
    _: KW_ONLY
    q: Any = 2.0

    def _penalty(self) -> RowPenalty:
        strength = self._check_strength("alpha")
        penalties = {1: RowsInSum, 2: RowsInL2, np.inf: RowsInMaximum}
        self._check("q", self.q in penalties, "1, 2 or math.inf")
        return penalties[self.q](strength)


@dataclass(frozen=True)
class RowsInSum(RowPenalty):
    """α Σ_j Σ_t |w_{jt}|."""

    strength: float

    def value(self, weights: Weights) -> float:
        """The sum of all magnitudes, times α."""
        return float(self.strength * np.abs(weights).sum())

    def proximal(self, weights: Weights, step: float) -> Weights:
        """Each weight brought nearer to 0 by step · α, at most to it."""
        cut = step * self.strength
        return weights - np.clip(weights, -cut, cut)

    def dual_row_norms(self, correlations: Weights) -> Float[np.ndarray, " features"]:
        """max_t |c_{jt}| / α."""
        return np.abs(correlations).max(axis=1) / self.strength


@dataclass(frozen=True)
class RowsInL2(RowPenalty):
    """α Σ_j ‖w^j‖₂."""

    strength: float

    def value(self, weights: Weights) -> float:
        """The sum of the rows' lengths, times α."""
        return float(self.strength * np.linalg.norm(weights, axis=1).sum())

    def proximal(self, weights: Weights, step: float) -> Weights:
        """Each row shortened by step · α, at most to 0."""
        cut = step * self.strength
        lengths = np.sqrt(np.einsum("jt,jt->j", weights, weights))
        return weights * (1 - cut / np.maximum(lengths, cut))[:, None]

    def dual_row_norms(self, correlations: Weights) -> Float[np.ndarray, " features"]:
        """‖c^j‖₂ / α."""
        return np.linalg.norm(correlations, axis=1) / self.strength


@dataclass(frozen=True)
class RowsInMaximum(RowPenalty):
    """α Σ_j max_t |w_{jt}|."""

    strength: float

    def value(self, weights: Weights) -> float:
        """The sum of the rows' largest magnitudes, times α."""
        return float(self.strength * np.abs(weights).max(axis=1).sum())

    def proximal(self, weights: Weights, step: float) -> Weights:
        """Each row clipped to the level at which the clipped parts add up to step · α.

        That is the row minus its projection onto the ℓ1 ball of radius step · α.
        """
        level = clipping_level(np.abs(weights), step * self.strength)
        return np.clip(weights, -level, level)

    def dual_row_norms(self, correlations: Weights) -> Float[np.ndarray, " features"]:
        """‖c^j‖₁ / α."""
        return np.abs(correlations).sum(axis=1) / self.strength


def clipping_level(
    magnitudes: Float[np.ndarray, "features tasks"], total: float
) -> Float[np.ndarray, "features 1"]:
    """For each row the θ ≥ 0 with Σ_t max(m_t − θ, 0) = total; 0 where Σ_t m_t is less.

    By sorting: with the k largest magnitudes above it, θ_k = (m_(1) + … + m_(k) − total) / k, and
    the right k gives the largest θ_k (Held, Wolfe and Crowder, *Validation of subgradient
    optimization*, 1974).
    """
    level = np.zeros((len(magnitudes), 1))
    over = np.flatnonzero(magnitudes @ np.ones(magnitudes.shape[1]) > total)
    if len(over):  # in a sparse solution few rows are
        descending = -np.sort(-magnitudes[over], axis=1)
        counts = np.arange(1, magnitudes.shape[1] + 1)
        levels = (descending.cumsum(axis=1) - total) / counts
        level[over, 0] = levels.max(axis=1)
    return level
