r"""Section 5.1: linear models of several tasks, tuned alike, for many replicates at once.

A method has a path: its solutions at all of its strengths. Validation data of as many rows as the
training data choose among them, for every method one strength for all tasks by the labels of all
tasks: single-task methods, too, so that no method knows more when it chooses. Every method has 16
fits, but the dirty model, which has two strengths, and its baseline have 32 each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.experiments.paths import Best, best_on_validation, regularisation_paths
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import scaled
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.non_neural.block_sparse import RowsInL2, RowsInMaximum, RowsInSum
from mtlbook.non_neural.dirty_model import BlockPlusSparse
from mtlbook.non_neural.proximal_gradient import RowPenalty
from mtlbook.non_neural.trace_norm import TraceNormRegression
from mtlbook.tasks import Task

LASSO, RIDGE = "single-task lasso", "single-task ridge"
BLOCK, MAXIMUM, DIRTY, TRACE = "ℓ1/ℓ2", "ℓ1/ℓ∞", "dirty model", "trace norm"
EITHER, BETTER = "q = 1 or 2", "better of lasso and ℓ1/ℓ∞"
RIDGE_OR_TRACE = "ridge or trace norm"
FITS = 16
SHARES = tuple(np.geomspace(1, 1 / 64, FITS).tolist())

Inputs = Float[np.ndarray, "replicates tasks examples features"]
Targets = Float[np.ndarray, "replicates tasks examples"]
Coefficients = Float[np.ndarray, "replicates features tasks"]
Weights = Float[np.ndarray, "strengths replicates features tasks"]
Errors = Float[np.ndarray, " replicates"]


@dataclass(frozen=True)
class Rows:
    """Examples of each replicate's tasks."""

    inputs: Inputs
    targets: Targets


@dataclass(frozen=True)
class Experiment:
    """Replicates of an experiment: what is learnt from, what is chosen by, what is judged by.

    Attributes:
        train, validation: examples.
        error: of each replicate's coefficients: exact where the truth is known, else on test rows.
    """

    train: Rows
    validation: Rows
    error: Callable[[Coefficients], Errors]


def penalties(tasks: int, strongest: float = 0.4) -> dict[str, list[RowPenalty]]:
    """The penalties of each method, strongest first.

    Where all tasks agree a row costs the same in all of them: α for each weight of the lasso, √T α
    and T α for the rows of the block norms. The dirty model has 8 strengths at 4 ratios.
    """
    strengths = [strongest * share for share in SHARES]
    ratios = np.linspace(1, tasks, 4).tolist()
    return {
        LASSO: [RowsInSum(s) for s in strengths],
        BLOCK: [RowsInL2(math.sqrt(tasks) * s) for s in strengths],
        MAXIMUM: [RowsInMaximum(tasks * s) for s in strengths],
        DIRTY: [BlockPlusSparse(r * s, s) for r in ratios for s in strengths[::2]],
    }


def block_paths(
    train: Rows,
    strongest: float = 0.4,
    tolerance: float = 1e-6,
    methods: Sequence[str] = (LASSO, BLOCK, MAXIMUM, DIRTY),
) -> dict[str, Weights]:
    """The paths of the lasso, the block norms and the dirty model, or of some of them."""
    own = penalties(train.inputs.shape[1], strongest)
    return {
        name: regularisation_paths(
            train.inputs, train.targets, own[name], tolerance=tolerance
        ).weights
        for name in methods
    }


def ridge_path(train: Rows, strongest: float = 10.0) -> Weights:
    """For each task by itself the least 1/(2n) ‖y − Xw‖² + α/2 ‖w‖², at 16 strengths."""
    examples, features = train.inputs.shape[-2:]
    gramian = train.inputs.swapaxes(-1, -2) @ train.inputs / examples
    moments = train.inputs.swapaxes(-1, -2) @ train.targets[..., None] / examples
    strengths = np.geomspace(strongest, strongest / 1000, FITS)
    solutions = [np.linalg.solve(gramian + s * np.eye(features), moments) for s in strengths]
    return np.stack(solutions)[..., 0].swapaxes(2, 3)


def trace_norm_path(train: Rows, strongest: float = 1.0) -> Weights:
    """The least Σ_t 1/(2n) ‖y_t − X_t w_t‖² + α ‖W‖_*, at 16 strengths."""
    replicates, tasks, examples, features = train.inputs.shape
    labels = np.repeat(np.arange(tasks), examples)
    weights = np.zeros((FITS, replicates, features, tasks))
    for replicate in range(replicates):
        inputs, targets = train.inputs[replicate], train.targets[replicate]
        model = TraceNormRegression(fit_intercept=False, warm_start=True, tol=1e-6)
        for place, strength in enumerate(np.geomspace(strongest, strongest / 100, FITS)):
            model.set_params(alpha=strength)
            model.fit(inputs.reshape(-1, features), targets.ravel(), tasks=labels)
            weights[place, replicate] = model.coef_.T
    return weights


def chosen(weights: Weights, experiment: Experiment) -> Best:
    """What the validation rows of all tasks choose for each replicate: one strength for all."""
    return best_on_validation(weights, experiment.validation.inputs, experiment.validation.targets)


def errors_of(paths: Mapping[str, Weights], experiment: Experiment) -> dict[str, Errors]:
    """Each method's error at the strength that its validation rows choose."""
    return {name: experiment.error(chosen(own, experiment).weights) for name, own in paths.items()}


def sparse_errors(experiment: Experiment) -> dict[str, Errors]:
    """The errors of the lasso, the block norms, the dirty model, and of two searches.

    `EITHER` may choose between the lasso and ℓ1/ℓ2, with every other strength of both: 16 fits.
    `BETTER` is for each replicate the one of the lasso and ℓ1/ℓ∞ with the lower validation loss.
    """
    paths = block_paths(experiment.train)
    errors = errors_of(paths, experiment)
    both = np.concatenate([paths[LASSO][::2], paths[BLOCK][::2]])
    losses = [chosen(paths[name], experiment).losses for name in (LASSO, MAXIMUM)]
    return errors | {
        EITHER: experiment.error(chosen(both, experiment).weights),
        BETTER: np.where(losses[0] <= losses[1], errors[LASSO], errors[MAXIMUM]),
    }


def low_rank_weights(experiment: Experiment) -> dict[str, Coefficients]:
    """The coefficients of the ridge, the trace norm, and of a search that may choose between them.

    The search has every other strength of both: 16 fits.
    """
    ridge, trace = ridge_path(experiment.train), trace_norm_path(experiment.train)
    both = np.concatenate([ridge[::2], trace[::2]])
    paths = {RIDGE: ridge, TRACE: trace, RIDGE_OR_TRACE: both}
    return {name: chosen(own, experiment).weights for name, own in paths.items()}


def constructed(
    draw: Callable[..., SyntheticDataset], seeds: Sequence[int], rows: int
) -> Experiment:
    """A data set for each seed, with as many validation rows as training rows.

    The error is the exact excess risk, in units of the targets' variance without noise: with inputs
    from N(0, I) the expectation of (x·ŵ − x·w)² is ‖ŵ − w‖².
    """
    made = [draw(seed, rows=2 * rows) for seed in seeds]
    inputs = np.stack([one.inputs_by_task.numpy() for one in made])
    targets = np.stack([one.targets.T.numpy() for one in made])
    truth = np.stack([one.coefficients.numpy() for one in made])
    train, validation = (
        Rows(inputs[:, :, part], targets[:, :, part]) for part in (slice(rows), slice(rows, None))
    )
    return Experiment(train, validation, partial(excess_risk, truth))


def excess_risk(truth: Coefficients, weights: Coefficients) -> Errors:
    """‖Ŵ − W‖² / ‖W‖²."""
    return ((weights - truth) ** 2).sum(axis=(1, 2)) / (truth**2).sum(axis=(1, 2))


def observed(
    data_of: Callable[[int], MultiTaskData], split: Holdout, seeds: Sequence[int]
) -> Experiment:
    """Real data: the error is that on test rows, in units of the targets' variance there.

    The means of the training rows are taken from inputs and targets.
    """
    drawn = [(data := data_of(seed), split.draw(data, seed)) for seed in seeds]
    parts = []
    for part in ("train", "validation", "test"):
        pairs = [
            [_examples(data, task, getattr(own, part)) for task in data.tasks]
            for data, own in drawn
        ]
        inputs, targets = (np.array([[pair[k] for pair in own] for own in pairs]) for k in (0, 1))
        parts.append(Rows(inputs, targets))
    centre = [part.mean(axis=2, keepdims=True) for part in (parts[0].inputs, parts[0].targets)]
    train, validation, test = (
        Rows(part.inputs - centre[0], part.targets - centre[1]) for part in parts
    )
    return Experiment(train, validation, partial(unexplained_variance, test))


def _examples(data: MultiTaskData, task: Task, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    own = rows[data.labelled[task.name][rows]]
    return data.inputs[own].numpy(), data.targets[task.name][own, 0].numpy()


def unexplained_variance(test: Rows, weights: Coefficients) -> Errors:
    """The squared error over the variance of the targets, both over all test rows of all tasks."""
    predicted = (test.inputs @ weights.swapaxes(1, 2)[..., None])[..., 0]
    residual = ((test.targets - predicted) ** 2).mean(axis=(1, 2))
    means = test.targets.mean(axis=2, keepdims=True)
    return residual / ((test.targets - means) ** 2).mean(axis=(1, 2))


def age_groups(seeds: Sequence[int], train: int = 30) -> Experiment:
    """scikit-learn's diabetes patients in four groups by age, a task each.

    As many patients of each group choose as train, and the others test. Inputs and target are in
    units of the training rows.
    """
    table = embedded.diabetes()
    quarters = table.inputs[:, 0].argsort(stable=True)[:440].chunk(4)
    sets = {
        Task.regression(f"age_group_{number}"): (
            table.inputs[own],
            table.targets["progression"][own],
        )
        for number, own in enumerate(quarters, start=1)
    }
    split = Holdout(train=train, validation=train, test=110 - 2 * train)
    data = MultiTaskData.several(sets)
    return observed(lambda seed: scaled(data, split, seed, together=True), split, seeds)


def ten_digits(seeds: Sequence[int], train: int = 100) -> Experiment:
    """Ten regressions on the pixels of a digit, "is it a 0?" to "is it a 9?", as Jalali et al."""
    data = embedded.digits(*(f"is_{digit}" for digit in range(10)))
    split = Holdout(train=train, validation=train, test=len(data.inputs) - 2 * train)
    return observed(lambda _seed: data, split, seeds)
