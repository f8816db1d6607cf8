r"""FISTA with a certified duality gap, for least squares over tasks with a convex penalty.

The problem is min_W P(W) = ½ ‖Y − 𝒳W‖² + Ω(W), where column t of W (features × tasks) has the
weights of task t, and 𝒳 is linear: `SharedDesign` and `SeparateDesigns` say how.

For any residual R and any 0 ≤ s ≤ 1 for which sR is feasible, weak duality bounds the minimum from
below: P(W*) ≥ s⟨R, Y⟩ − ½ s²‖R‖² − Ω*(s 𝒳ᵀR), with Ω* the convex conjugate. What P(W) exceeds this
bound by is the duality gap. It certifies the solution: no other is better by more.

References: Beck and Teboulle, *A fast iterative shrinkage-thresholding algorithm*, 2009, section 4;
O'Donoghue and Candès, *Adaptive restart for accelerated gradient schemes*, 2015, section 3.2;
Massias, Gramfort and Salmon, *Celer: a fast solver for the lasso with dual extrapolation*, 2018
(working sets).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Weights = Float[np.ndarray, "features tasks"]
Outputs = Float[np.ndarray, "_ _"]  # Y, in the layout of the design

CHECK_EVERY = 10  # iterations between two computations of the gap, which costs as much as one
SMALLEST_WORKING_SET = 20  # features


@dataclass(frozen=True)
class SharedDesign:
    """All tasks have the same inputs X: 𝒳W = XW, and outputs are examples × tasks."""

    inputs: Float[np.ndarray, "examples features"]

    def forward(self, weights: Weights) -> Outputs:
        """XW."""
        return self.inputs @ weights

    def adjoint(self, outputs: Outputs) -> Weights:
        """XᵀR."""
        return self.inputs.T @ outputs

    def curvature(self) -> float:
        """The square of the largest singular value of X."""
        return float(_squared_spectral_norms(self.inputs))

    def restricted(self, features: Int[np.ndarray, " some"]) -> "SharedDesign":
        """Some columns of X."""
        return SharedDesign(self.inputs[:, features])


@dataclass(frozen=True)
class SeparateDesigns:
    """Each task has its own inputs X_t: column t of W meets X_t, and outputs are tasks × examples.

    Tasks with fewer examples are filled up with rows of zeros, in the outputs too: they add nothing
    to any sum.
    """

    inputs: Float[np.ndarray, "tasks examples features"]

    def forward(self, weights: Weights) -> Outputs:
        """X_t w_t for each task."""
        return (self.inputs @ weights.T[:, :, None])[:, :, 0]

    def adjoint(self, outputs: Outputs) -> Weights:
        """X_tᵀ r_t for each task."""
        return (outputs[:, None, :] @ self.inputs)[:, 0, :].T

    def curvature(self) -> float:
        """The square of the largest singular value among all X_t."""
        return float(_squared_spectral_norms(self.inputs).max())

    def restricted(self, features: Int[np.ndarray, " some"]) -> "SeparateDesigns":
        """Some columns of each X_t."""
        return SeparateDesigns(self.inputs[:, :, features])


Design = SharedDesign | SeparateDesigns


def _squared_spectral_norms(
    matrices: Float[np.ndarray, "*batch rows columns"],
) -> Float[np.ndarray, "*batch"]:
    transposed = matrices.swapaxes(-1, -2)
    wide = matrices.shape[-1] > matrices.shape[-2]
    gramian = matrices @ transposed if wide else transposed @ matrices
    return np.linalg.eigvalsh(gramian)[..., -1]


class Penalty(ABC):
    """A convex penalty Ω; a norm, unless a subclass defines `dual_scale` and `conjugate` anew."""

    @abstractmethod
    def value(self, weights: Weights) -> float:
        """Ω(W)."""

    @abstractmethod
    def proximal(self, weights: Weights, step: float) -> Weights:
        """The minimiser over V of ½ ‖V − W‖² + step · Ω(V)."""

    @abstractmethod
    def dual_norm(self, correlations: Weights) -> float:
        """Ω°(C) = max ⟨C, V⟩ over all V with Ω(V) ≤ 1."""

    def dual_scale(self, correlations: Weights) -> float:
        """The largest s ≤ 1 for which Ω*(sC) is finite."""
        return 1 / max(1.0, self.dual_norm(correlations))

    def conjugate(self, correlations: Weights) -> float:  # noqa: ARG002
        """Ω*(C) where it is finite: of a norm, 0."""
        return 0.0


class RowPenalty(Penalty):
    """A norm that is a sum over features of a norm of the row of their weights over tasks."""

    @abstractmethod
    def dual_row_norms(self, correlations: Weights) -> Float[np.ndarray, " features"]:
        """The dual norm of each row: below 1, the feature's weights are 0 at the minimum."""

    def dual_norm(self, correlations: Weights) -> float:
        """The largest among the rows."""
        return float(self.dual_row_norms(correlations).max())


@dataclass(frozen=True)
class Solution:
    """Weights, their certified duality gap, and how many iterations of FISTA found them."""

    weights: Weights
    gap: float
    iterations: int


def duality_gap(design: Design, outputs: Outputs, penalty: Penalty, weights: Weights) -> float:
    """How much P(W) can at most exceed the minimum."""
    residual = outputs - design.forward(weights)
    return _gap(outputs, residual, design.adjoint(residual), penalty, weights)


def _gap(
    outputs: Outputs,
    residual: Outputs,
    correlations: Weights,
    penalty: Penalty,
    weights: Weights,
) -> float:
    scale = penalty.dual_scale(correlations)
    squares = np.vdot(residual, residual)
    primal = squares / 2 + penalty.value(weights)
    dual = scale * np.vdot(residual, outputs) - scale**2 * squares / 2
    return float(primal - dual + penalty.conjugate(scale * correlations))


def minimise(
    design: Design,
    outputs: Outputs,
    penalty: Penalty,
    *,
    start: Weights,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """FISTA with restart, until the duality gap is at most the tolerance.

    The momentum starts anew whenever the last step points against the gradient mapping.
    """
    curvature = design.curvature()
    step = 1 / curvature if curvature > 0 else 1.0
    weights = point = start
    momentum, gap, iteration = 1.0, np.inf, 0
    for iteration in range(1, max_iterations + 1):
        correlations = design.adjoint(outputs - design.forward(point))
        new = penalty.proximal(point + step * correlations, step)
        moved = new - weights
        if np.vdot(point - new, moved) > 0:
            momentum, point = 1.0, new
        else:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            point = new + (momentum - 1) / following * moved
            momentum = following
        weights = new
        if iteration % CHECK_EVERY == 1 or iteration == max_iterations:
            gap = duality_gap(design, outputs, penalty, weights)
            if gap <= tolerance:
                break
    return Solution(weights, gap, iteration)


def minimise_over_working_sets(
    design: Design,
    outputs: Outputs,
    penalty: RowPenalty,
    *,
    start: Weights,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """The same solution as `minimise`, found on growing sets of features: fast where few count.

    Each round solves the problem of the features that have weights and of those whose row of 𝒳ᵀR
    has the largest dual norm, more accurately than the last round's gap over *all* features. The
    returned gap is over all features.
    """
    weights, iterations, size = start, 0, 0
    while True:
        residual = outputs - design.forward(weights)
        correlations = design.adjoint(residual)
        gap = _gap(outputs, residual, correlations, penalty, weights)
        if gap <= tolerance or iterations >= max_iterations:
            return Solution(weights, gap, max(1, iterations))
        active = weights.any(axis=1)
        size = min(len(weights), max(size, 2 * int(active.sum()), SMALLEST_WORKING_SET))
        priority = np.where(active, np.inf, penalty.dual_row_norms(correlations))
        features = np.sort(np.argsort(-priority, kind="stable")[:size])
        found = minimise(
            design.restricted(features),
            outputs,
            penalty,
            start=weights[features],
            tolerance=max(tolerance / 2, gap / 10),
            max_iterations=max_iterations - iterations,
        )
        weights = np.zeros_like(weights)
        weights[features] = found.weights
        iterations += found.iterations
