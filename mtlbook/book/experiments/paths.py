r"""Section 5.1, many fits at once: a path of strengths for many replicates of one experiment.

The estimators fit one data set. An experiment has a data set for each seed, and each of them has a
solution for each strength. Here the replicates are solved together: a penalty that is a sum over
features doesn't notice that its features belong to different replicates, so R problems with p
features are one problem with R · p features, whose design has R blocks. FISTA runs on all blocks in
a few array operations, and each strength starts from the solution of the one before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mtlbook.book.progress import each
from mtlbook.non_neural.proximal_gradient import Outputs, RowPenalty, Weights, minimise


@dataclass(frozen=True)
class ReplicatedDesigns:
    """Each replicate's tasks have inputs X_{rt}: row (r, j) of W meets column j of X_{r1} … X_{rT}.

    Outputs are replicates · tasks × examples.
    """

    inputs: Float[np.ndarray, "replicates tasks examples features"]

    def forward(self, weights: Weights) -> Outputs:
        """X_{rt} w_{rt} for each replicate and task."""
        replicates, tasks, examples, features = self.inputs.shape
        columns = weights.reshape(replicates, features, tasks).transpose(0, 2, 1)[..., None]
        return (self.inputs @ columns).reshape(replicates * tasks, examples)

    def adjoint(self, outputs: Outputs) -> Weights:
        """X_{rt}ᵀ r_{rt} for each replicate and task."""
        replicates, tasks, examples, features = self.inputs.shape
        rows = outputs.reshape(replicates, tasks, 1, examples) @ self.inputs
        return rows[:, :, 0].transpose(0, 2, 1).reshape(replicates * features, tasks)


@dataclass(frozen=True)
class Path:
    """The solutions for each strength, and what certifies them.

    Attributes:
        weights: without intercepts.
        gaps: the duality gap of each strength, summed over the replicates.
    """

    weights: Float[np.ndarray, "strengths replicates features tasks"]
    gaps: Float[np.ndarray, " strengths"]


@dataclass(frozen=True)
class Best:
    """The chosen weights, their mean validation loss, and the positions of their strengths."""

    weights: Float[np.ndarray, "replicates features tasks"]
    losses: Float[np.ndarray, " replicates"]
    positions: Int[np.ndarray, "replicates tasks"]


def regularisation_paths(
    inputs: Float[np.ndarray, "replicates tasks examples features"],
    targets: Float[np.ndarray, "replicates tasks examples"],
    penalties: Sequence[RowPenalty],
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 10_000,
) -> Path:
    """What an estimator without intercept finds for each replicate and each penalty.

    Arguments:
        inputs: each task's own, as many examples for each.
        targets: of the same tasks.
        penalties: one kind of penalty at several strengths, best the strongest first.
        tolerance: for the gap, relative to the squares of the targets, all replicates together.
        max_iterations: for each penalty.

    Example:
        Two replicates of two tasks, ℓ1/ℓ2 at two strengths:

        >>> from mtlbook.non_neural.block_sparse import RowsInL2
        >>> inputs = np.random.default_rng(0).normal(size=(2, 2, 20, 5))
        >>> targets = inputs[..., 0] - inputs[..., 1]
        >>> path = regularisation_paths(inputs, targets, [RowsInL2(3.0), RowsInL2(0.1)])
        >>> path.weights.shape, path.weights.any(axis=3).sum(axis=2).tolist()
        ((2, 2, 5, 2), [[0, 0], [2, 2]])
    """
    replicates, tasks, examples, features = inputs.shape
    root = np.sqrt(examples)
    design = ReplicatedDesigns(inputs / root)
    outputs = (targets / root).reshape(replicates * tasks, examples)
    weights = np.zeros((replicates * features, tasks))
    found, gaps = [], []
    for penalty in each(penalties, "regularisation path", counted=False):
        solution = minimise(
            design,
            outputs,
            penalty,
            start=weights,
            tolerance=tolerance * float(np.vdot(outputs, outputs)),
            max_iterations=max_iterations,
        )
        weights = solution.weights
        found.append(weights.reshape(replicates, features, tasks))
        gaps.append(solution.gap)
    return Path(np.stack(found), np.array(gaps))


def best_on_validation(
    weights: Float[np.ndarray, "strengths replicates features tasks"],
    inputs: Float[np.ndarray, "replicates tasks examples features"],
    targets: Float[np.ndarray, "replicates tasks examples"],
    each_task: bool = False,
) -> Best:
    """What validation data choose for each replicate, by the mean squared error.

    Arguments:
        weights: of each strength, as `Path` has them.
        inputs: the validation data of each task.
        targets: of the same tasks.
        each_task: choose for each task by its own data, or one strength for all tasks.
    """
    # Strengths × replicates × tasks × examples.
    predictions = (inputs @ weights.swapaxes(2, 3)[..., None])[..., 0]
    losses = ((targets - predictions) ** 2).mean(axis=3)
    if not each_task:
        losses = losses.mean(axis=2, keepdims=True).repeat(losses.shape[2], axis=2)
    positions = losses.argmin(axis=0)
    chosen = np.take_along_axis(weights, positions[None, :, None, :], axis=0)[0]
    return Best(chosen, losses.min(axis=0).mean(axis=1), positions)
