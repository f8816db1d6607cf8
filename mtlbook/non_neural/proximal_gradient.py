r"""FISTA with a certified duality gap, for least squares over tasks with a convex penalty.

The problem is min_W P(W) = ½ ‖Y − 𝒳W‖² + Ω(W), where column t of W (features × tasks) has the
weights of task t, and 𝒳 is linear: `SharedDesign` and `SeparateDesigns` say how.

For any residual R and any 0 ≤ s ≤ 1 for which sR is feasible, weak duality bounds the minimum from
below: P(W*) ≥ s⟨R, Y⟩ − ½ s²‖R‖² − Ω*(s 𝒳ᵀR), with Ω* the convex conjugate. What P(W) exceeds this
bound by is the duality gap. It certifies the solution: no other is better by more.

References: Beck and Teboulle, *A fast iterative shrinkage-thresholding algorithm*, 2009, section 4
(the step by backtracking); O'Donoghue and Candès, *Adaptive restart for accelerated gradient
schemes*, 2015, section 3.2; Massias, Gramfort and Salmon, *Celer: a fast solver for the lasso with
dual extrapolation*, 2018 (working sets).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

Weights = Float[np.ndarray, "features tasks"]
Outputs = Float[np.ndarray, "_ _"]  # Y, in the layout of the design

CHECK_EVERY = 10  # iterations between two computations of the gap
ROUNDING = 1e-14  # relative to the outputs: a change below it says nothing about the curvature
BACK = 0.95  # of the step that the curvature just met would allow
SMALLEST_WORKING_SET = 20  # features


@runtime_checkable
class LinearMap(Protocol):
    """𝒳, and its adjoint."""

    def forward(self, weights: Weights) -> Outputs:
        """𝒳W."""
        ...

    def adjoint(self, outputs: Outputs) -> Weights:
        """𝒳ᵀR."""
        ...


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

    def restricted(self, features: Int[np.ndarray, " some"]) -> "SharedDesign":
        """Some columns of X."""
        return SharedDesign(self.inputs[:, features])

    def compressed(self, outputs: Outputs) -> tuple["SharedDesign", Outputs]:
        """The same problem in as few rows as there are features, X = QR: R and QᵀY.

        Only the part of Y that no weights can reach is gone, a constant.
        """
        if self.inputs.shape[0] <= self.inputs.shape[1]:
            return self, outputs
        rotation, inputs = np.linalg.qr(self.inputs)
        return SharedDesign(inputs), rotation.T @ outputs


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

    def restricted(self, features: Int[np.ndarray, " some"]) -> "SeparateDesigns":
        """Some columns of each X_t."""
        return SeparateDesigns(self.inputs[:, :, features])

    def compressed(self, outputs: Outputs) -> tuple["SeparateDesigns", Outputs]:
        """The same problem in as few rows a task as there are features, X_t = Q_t R_t."""
        if self.inputs.shape[1] <= self.inputs.shape[2]:
            return self, outputs
        rotations, inputs = np.linalg.qr(self.inputs)
        return SeparateDesigns(inputs), (outputs[:, None, :] @ rotations)[:, 0, :]


Design = SharedDesign | SeparateDesigns


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


class Iterate(NamedTuple):
    """Weights W with their residual Y − 𝒳W and its correlations 𝒳ᵀ(Y − 𝒳W), minus the gradient."""

    weights: Weights
    residual: Outputs
    correlations: Weights

    @classmethod
    def at(cls, design: LinearMap, outputs: Outputs, weights: Weights) -> "Iterate":
        """All three from the weights."""
        residual = outputs - design.forward(weights)
        return cls(weights, residual, design.adjoint(residual))

    def beyond(self, other: "Iterate", factor: float) -> "Iterate":
        """W + factor (W − W'), where all three are as affine as the weights."""
        return Iterate(*(own + factor * (own - old) for own, old in zip(self, other, strict=True)))


def duality_gap(outputs: Outputs, penalty: Penalty, found: Iterate) -> float:
    """How much P(W) can at most exceed the minimum."""
    scale = penalty.dual_scale(found.correlations)
    squares = np.vdot(found.residual, found.residual)
    primal = squares / 2 + penalty.value(found.weights)
    dual = scale * np.vdot(found.residual, outputs) - scale**2 * squares / 2
    return float(primal - dual + penalty.conjugate(scale * found.correlations))


def minimise(
    design: LinearMap,
    outputs: Outputs,
    penalty: Penalty,
    *,
    start: Weights,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """FISTA with restart, until the duality gap is at most the tolerance.

    The step is 1 / L with the largest curvature L = ‖𝒳D‖² / ‖D‖² that was met along a step D. The
    momentum starts anew whenever the last step points against the gradient mapping.
    """
    last = point = Iterate.at(design, outputs, start)
    step = _reciprocal_curvature(point.correlations, design.forward(point.correlations))
    noise = ROUNDING**2 * np.vdot(outputs, outputs)
    momentum, gap, iteration = 1.0, np.inf, 0
    for iteration in range(1, max_iterations + 1):
        while True:
            weights = penalty.proximal(point.weights + step * point.correlations, step)
            residual = outputs - design.forward(weights)
            moved, change = weights - point.weights, residual - point.residual
            squares = np.vdot(change, change)
            if squares <= noise or step * squares <= np.vdot(moved, moved):
                break
            step = BACK * _reciprocal_curvature(moved, change)
        new = Iterate(weights, residual, design.adjoint(residual))
        if np.vdot(moved, weights - last.weights) < 0:
            momentum, point = 1.0, new
        else:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            point = new.beyond(last, (momentum - 1) / following)
            momentum = following
        last = new
        if iteration % CHECK_EVERY == 1 or iteration == max_iterations:
            gap = duality_gap(outputs, penalty, new)
            if gap <= tolerance:
                break
    return Solution(last.weights, gap, iteration)


def _reciprocal_curvature(moved: Weights, change: Outputs) -> float:
    """‖D‖² / ‖𝒳D‖²; 1 where 𝒳D = 0."""
    squares = np.vdot(change, change)
    return float(np.vdot(moved, moved) / squares) if squares > 0 else 1.0


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
        found = Iterate.at(design, outputs, weights)
        gap = duality_gap(outputs, penalty, found)
        if gap <= tolerance or iterations >= max_iterations:
            return Solution(weights, gap, max(1, iterations))
        active = weights.any(axis=1)
        size = min(len(weights), max(size, 2 * int(active.sum()), SMALLEST_WORKING_SET))
        priority = np.where(active, np.inf, penalty.dual_row_norms(found.correlations))
        features = np.sort(np.argsort(-priority, kind="stable")[:size])
        part = minimise(
            design.restricted(features),
            outputs,
            penalty,
            start=weights[features],
            tolerance=max(tolerance / 2, gap / 10),
            max_iterations=max_iterations - iterations,
        )
        weights = np.zeros_like(weights)
        weights[features] = part.weights
        iterations += part.iterations
