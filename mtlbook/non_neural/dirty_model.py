r"""Section 5.1, the dirty model: features that all tasks share beside features of single tasks.

Jalali, Ravikumar, Sanghavi and Ruan (*A dirty model for multi-task learning*, 2010) write W = B + S
and penalise B as a block, S element by element: Ω(B, S) = λ_b ‖B‖_{1,∞} + λ_s ‖S‖_{1,1}.

For given W, each row splits in closed form: B clips the row at the magnitude μ and S is the excess,
where μ has at most λ_b / λ_s weights of the row above it. What remains is a norm of the row of W,

    h(w) = min_{b + s = w} λ_b ‖b‖_∞ + λ_s ‖s‖₁ = λ_b μ + λ_s Σ_t max(|w_t| − μ, 0),

whose dual ball is the intersection of both dual balls, {c : ‖c‖₁ ≤ λ_b, ‖c‖_∞ ≤ λ_s}. So the model
needs no alternation between B and S: it is one more block norm, solved like the others.

The split also shows the ends of the dial. With T tasks, λ_b < λ_s gives S = 0 and the ℓ1/ℓ∞ norm;
λ_b ≥ T λ_s gives B = 0 and a lasso for each task. Only λ_s ≤ λ_b < T λ_s uses both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mtlbook.non_neural.linear_model import MultiTaskLinearModel
from mtlbook.non_neural.proximal_gradient import RowPenalty, Weights


@dataclass(eq=False, repr=False)
class DirtyModel(MultiTaskLinearModel):
    r"""Least squares with weights B + S, B block-sparse and S sparse (Jalali et al., 2010).

    Minimises Σ_t 1/(2 n_t) ‖y_t − X_t (b_t + s_t) − c_t‖² + λ_b ‖B‖_{1,∞} + λ_s ‖S‖_{1,1}, with the
    norms ‖B‖_{1,∞} = Σ_j max_t |b_{jt}| and ‖S‖_{1,1} = Σ_{jt} |s_{jt}|.

    Arguments:
        alpha_block: λ_b > 0.
        alpha_sparse: λ_s > 0. Outside λ_s ≤ λ_b < T λ_s the model is one of its limits, see above.
        fit_intercept, max_iter, tol, warm_start: see `MultiTaskLinearModel`, also for the other
            attributes.

    Attributes:
        block_coef_: B, in the shape of `coef_`.
        sparse_coef_: S, in the shape of `coef_`, which is their sum. The sum is what the data
            determine; where λ_b / λ_s is an integer B and S can trade, and S is as large as can be.

    Example:
        Three tasks share a feature; the third has one of its own.

        >>> X = np.random.default_rng(0).normal(size=(50, 5))
        >>> Y = X @ np.array([[2, 2, 2], [0, 0, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
        >>> model = DirtyModel(alpha_block=0.15, alpha_sparse=0.1).fit(X, Y)
        >>> model.block_coef_.any(axis=0)
        array([ True, False, False, False, False])
        >>> np.argwhere(model.sparse_coef_).tolist()
        [[2, 1]]
    """

    alpha_block: Any = 1.0
    alpha_sparse: Any = 0.75

    def _penalty(self) -> "BlockPlusSparse":
        return BlockPlusSparse(
            self._check_strength("alpha_block"),
            self._check_strength("alpha_sparse"),
        )

    def fit(self, X: Any, y: Any, tasks: Any = None) -> "DirtyModel":  # noqa: N803
        """Fits the weights of all tasks and splits them, see `MultiTaskLinearModel.fit`."""
        super().fit(X, y, tasks)
        block, sparse = self._penalty().split(np.atleast_2d(self.coef_).T)
        self.block_coef_ = block.T.reshape(self.coef_.shape)
        self.sparse_coef_ = sparse.T.reshape(self.coef_.shape)
        return self


@dataclass(frozen=True)
class BlockPlusSparse(RowPenalty):
    """Σ_j h(w^j): the cheapest split of each row into a block and a sparse part."""

    block: float
    sparse: float

    def split(self, weights: Weights) -> tuple[Weights, Weights]:
        """B and S, with B + S = W, of the least penalty."""
        above = int(min(np.floor(self.block / self.sparse), weights.shape[1]))
        descending = -np.sort(-np.abs(weights), axis=1)
        level = np.pad(descending, ((0, 0), (0, 1)))[:, above, None]
        block = np.clip(weights, -level, level)
        return block, weights - block

    def value(self, weights: Weights) -> float:
        """The penalty of the split."""
        block, sparse = self.split(weights)
        return float(
            self.block * np.abs(block).max(axis=1).sum() + self.sparse * np.abs(sparse).sum()
        )

    def proximal(self, weights: Weights, step: float) -> Weights:
        """Each row minus its projection onto the two dual balls, by Moreau's decomposition.

        The projection is sign(w) min(max(|w| − θ, 0), step λ_s).
        """
        magnitudes, cap = np.abs(weights), step * self.sparse
        level = capped_clipping_level(magnitudes, step * self.block, cap)
        return np.sign(weights) * np.maximum(np.minimum(magnitudes, level), magnitudes - cap)

    def dual_row_norms(self, correlations: Weights) -> Float[np.ndarray, " features"]:
        """max(‖c^j‖₁ / λ_b, ‖c^j‖_∞ / λ_s)."""
        magnitudes = np.abs(correlations)
        return np.maximum(magnitudes.sum(axis=1) / self.block, magnitudes.max(axis=1) / self.sparse)


def capped_clipping_level(
    magnitudes: Float[np.ndarray, "features tasks"], total: float, cap: float
) -> Float[np.ndarray, "features 1"]:
    """For each row the least θ ≥ 0 with Σ_t min(max(m_t − θ, 0), cap) ≤ total.

    The sum falls with θ, linearly between its kinks at m_t and m_t − cap: it is evaluated at all of
    them, and interpolated where it passes the total.
    """
    level = np.zeros((len(magnitudes), 1))
    over = np.flatnonzero(np.minimum(magnitudes, cap) @ np.ones(magnitudes.shape[1]) > total)
    if len(over):  # in a sparse solution few rows are
        level[over, 0] = _where_the_sum_passes(magnitudes[over].T, total, cap)
    return level


def _where_the_sum_passes(
    magnitudes: Float[np.ndarray, "tasks rows"], total: float, cap: float
) -> Float[np.ndarray, " rows"]:
    # A row of the matrix is a column here: NumPy is slow along short last axes. From one kink to
    # the next the slope is minus the number of magnitudes between θ and θ + cap.
    kinks = np.concatenate([0 * magnitudes[:1], magnitudes, np.maximum(magnitudes - cap, 0)])
    changes = np.repeat([0.0, 1.0, -1.0], [1, len(magnitudes), len(magnitudes)])
    order = kinks.argsort(axis=0, kind="stable")
    kinks = np.take_along_axis(kinks, order, axis=0)
    slopes = changes[order].cumsum(axis=0)
    falls = np.concatenate([0 * kinks[:1], slopes[:-1] * np.diff(kinks, axis=0)])
    sums = np.minimum(magnitudes, cap).sum(axis=0) + falls.cumsum(axis=0)
    rows = np.arange(magnitudes.shape[1])
    passed = (sums > total).sum(axis=0) - 1
    # Where rounding alone keeps the sum above the total there is no slope left.
    return kinks[passed, rows] + (sums[passed, rows] - total) / np.maximum(-slopes[passed, rows], 1)
