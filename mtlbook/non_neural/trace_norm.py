r"""Section 5.1, learning features for all tasks: trace-norm regularisation.

Block sparsity selects among the given features. Argyriou, Evgeniou and Pontil (*Multi-task feature
learning*, 2007; *Convex multi-task feature learning*, 2008) rotate them first: with an orthogonal
U,

    min_{U, A} Σ_t L_t(U a_t) + γ ‖A‖²_{2,1}  =  min_W Σ_t L_t(w_t) + γ ‖W‖_*²,  W = UA,

where ‖W‖_*, the trace (nuclear) norm, is the sum of the singular values: few directions in the
space of weights serve all tasks. The paper's penalty is the *squared* norm; most later work uses
the plain norm λ ‖W‖_*. Both trace the same path of solutions as their strength varies: a solution W
of the squared form with γ is one of the plain form with λ = 2 γ ‖W‖_*.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mtlbook.non_neural.linear_model import MultiTaskLinearModel
from mtlbook.non_neural.proximal_gradient import Penalty, Weights


@dataclass(eq=False, repr=False)
class TraceNormRegression(MultiTaskLinearModel):
    r"""Least squares with a trace-norm penalty (Argyriou, Evgeniou and Pontil, 2008).

    Minimises Σ_t 1/(2 n_t) ‖y_t − X_t w_t − c_t‖² + α ‖W‖_*, or with `squared` + α ‖W‖_*².

    Arguments:
        alpha: α > 0, which is λ in the plain form and γ in the squared one: the same number means
            different strengths.
        squared: the paper's form. Here α need not change with the scale of the targets, as in ridge
            regression; and as there, no finite α gives W = 0.
        fit_intercept, max_iter, tol, warm_start: see `MultiTaskLinearModel`, also for attributes.

    Example:
        Four tasks whose weights are multiples of one direction:

        >>> source = np.random.default_rng(0)
        >>> X = source.normal(size=(60, 5))
        >>> W = np.outer([1, -1, 2, 0, 1], [1, 2, -1, 3])
        >>> Y = X @ W + 0.1 * source.normal(size=(60, 4))
        >>> model = TraceNormRegression(alpha=0.1).fit(X, Y)
        >>> int(np.linalg.matrix_rank(model.coef_))
        1
    """

    alpha: Any = 1.0
    _: KW_ONLY
    squared: Any = False

    def _penalty(self) -> Penalty:
        strength = self._check_strength("alpha")
        return SquaredTraceNorm(strength) if self.squared else TraceNorm(strength)


@dataclass(frozen=True)
class TraceNorm(Penalty):
    """λ ‖W‖_*."""

    strength: float

    def value(self, weights: Weights) -> float:
        """The sum of the singular values, times λ."""
        return float(self.strength * np.linalg.svdvals(weights).sum())

    def proximal(self, weights: Weights, step: float) -> Weights:
        """The singular values lowered by step · λ, at most to 0."""
        return lower_singular_values(weights, step * self.strength)

    def dual_norm(self, correlations: Weights) -> float:
        """The largest singular value / λ."""
        return float(np.linalg.svdvals(correlations)[0] / self.strength)


@dataclass(frozen=True)
class SquaredTraceNorm(Penalty):
    """γ ‖W‖_*²."""

    strength: float

    def value(self, weights: Weights) -> float:
        """The square of the sum of the singular values, times γ."""
        return float(self.strength * np.linalg.svdvals(weights).sum() ** 2)

    def proximal(self, weights: Weights, step: float) -> Weights:
        """The singular values lowered by 2 step γ times what remains of their sum."""
        values = np.linalg.svdvals(weights)
        return lower_singular_values(weights, proportional_cut(values, 2 * step * self.strength))

    def dual_norm(self, correlations: Weights) -> float:
        """The largest singular value, which is the dual of the trace norm itself."""
        return float(np.linalg.svdvals(correlations)[0])

    def dual_scale(self, correlations: Weights) -> float:  # noqa: ARG002
        """1: the conjugate is finite everywhere."""
        return 1.0

    def conjugate(self, correlations: Weights) -> float:
        """‖C‖² / (4γ), with the largest singular value as the norm."""
        return self.dual_norm(correlations) ** 2 / (4 * self.strength)


def lower_singular_values(
    weights: Float[np.ndarray, "features tasks"], amount: float
) -> Float[np.ndarray, "features tasks"]:
    """The matrix with its singular values lowered by the amount, at most to 0."""
    left, values, right = np.linalg.svd(weights, full_matrices=False)
    return (left * np.maximum(values - amount, 0)) @ right


def proportional_cut(values: Float[np.ndarray, " values"], factor: float) -> float:
    """The amount a = factor · Σ_i max(v_i − a, 0) for non-negative values in descending order.

    With the k largest values above it, a_k = factor (v_1 + … + v_k) / (1 + factor k), and the right
    k gives the largest a_k.
    """
    counts = np.arange(1, len(values) + 1)
    return float((factor * values.cumsum() / (1 + factor * counts)).max())
