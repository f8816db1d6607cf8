r"""Section 5.1: linear models of the examination scores in 139 schools, one task a school.

The protocol of the literature (Evgeniou and Pontil, 2004; Argyriou, Evgeniou and Pontil, 2008): ten
random splits, 75 % of each school's students for training and 25 % for the test; strengths chosen
by cross-validation within the training part (here 5 folds, by the squared error of all held-out
students); all errors over all test students together. The inputs are the 27 published ones and a
constant, whose weight is regularised like the others, as in the literature; inputs and scores are
standardised with means and standard deviations of the training part. The trace norm is the plain
one: the squared norm of the paper has the same solutions at other strengths.

*Explained variance* is 100 (1 − Σ (y − ŷ)² / Σ (y − m)²), and what m is must be said: with the mean
of all test students (`of all students`) the differences between schools count as variance that can
be explained; with the mean of the test students of the same school (`within schools`) they don't,
while a wrong mean of a school still counts as an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from mtlbook.data import school
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.non_neural.block_sparse import BlockSparseRegression
from mtlbook.non_neural.dirty_model import DirtyModel
from mtlbook.non_neural.linear_model import MultiTaskLinearModel
from mtlbook.non_neural.trace_norm import TraceNormRegression
from mtlbook.randomness import generator

SECTION = "5.1"
DATA = ("school",)
SEEDS = 10
FOLDS = 5
SPLIT = Holdout(train=0.75, validation=0.0, test=0.25)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Students:
    """Some students: inputs with a constant, scores, and the number of each one's school."""

    inputs: Float[np.ndarray, "students features"]
    scores: Float[np.ndarray, " students"]
    schools: Int[np.ndarray, " students"]

    def __getitem__(self, rows: np.ndarray) -> "Students":
        return Students(self.inputs[rows], self.scores[rows], self.schools[rows])


# The weights of each school (schools × features) for each strength of a method.
Weights = Float[np.ndarray, "strengths schools features"]
Method = Callable[[Students], Weights]


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:  # noqa: ARG001
    """Explained variances and the number of the chosen strength: a row a seed, method and metric.

    Everything runs on the CPU, whatever the device.
    """
    data = school.load()
    rows = []
    for seed in seeds:
        training, held_out = drawn(data, seed)
        folds = fold_numbers(training.schools, seed)
        for name, method in methods().items():
            weights, choice = tuned(method, training, folds)
            for metric, value in explained_variances(weights, held_out).items():
                rows.append({"seed": seed, "method": name, "metric": metric, "value": value})
            rows.append({"seed": seed, "method": name, "metric": "choice", "value": float(choice)})
    return pd.DataFrame(rows)


def drawn(data: MultiTaskData, seed: int) -> tuple[Students, Students]:
    """A seed's training and test students, in units of the training students."""
    split = SPLIT.draw(data, seed)
    students = as_arrays(school.scaled(data, SPLIT, seed))
    return students[split.train.numpy()], students[split.test.numpy()]


def as_arrays(data: MultiTaskData) -> Students:
    """All students of all schools."""
    owner = np.zeros(len(data.inputs), dtype=np.int64)
    scores = np.zeros(len(data.inputs))
    for number, task in enumerate(data.tasks):
        own = data.labelled[task.name].numpy()
        owner[own] = number
        scores[own] = data.targets[task.name][own, 0].numpy()
    return Students(data.inputs.numpy(), scores, owner)


def fold_numbers(schools: Int[np.ndarray, " students"], seed: int) -> Int[np.ndarray, " students"]:
    """A fold for each student, at random, each school spread evenly over the folds."""
    folds = np.zeros(len(schools), dtype=np.int64)
    for number in np.unique(schools):
        own = np.flatnonzero(schools == number)
        order = torch.randperm(len(own), generator=generator(seed, "folds", int(number)))
        folds[own] = order.numpy() % FOLDS
    return folds


def methods() -> dict[str, Method]:
    """The methods by name; each finds the weights for all of its strengths."""
    strengths = np.geomspace(3.0, 0.003, 10)
    # Between the model's limits, the block norm at a ratio of 1 and a lasso for each school at 139.
    parts = [
        {"alpha_block": strength, "alpha_sparse": strength / ratio}
        for ratio in (2.0, 5.0, 15.0, 50.0, 100.0)
        for strength in (12.0, 6.0, 3.0, 1.5)
    ]
    return {
        "pooled least squares": pooled,
        "ridge for each school": partial(ridge, strengths=np.geomspace(10.0, 0.01, 10)),
        "ℓ1/ℓ2": partial(path, BlockSparseRegression(q=2), _alphas(strengths)),
        "ℓ1/ℓ∞": partial(path, BlockSparseRegression(q=np.inf), _alphas(10 * strengths)),
        "dirty model": partial(path, DirtyModel(), parts),
        "trace norm": partial(path, TraceNormRegression(), _alphas(3 * strengths)),
    }


def _alphas(strengths: Float[np.ndarray, " strengths"]) -> list[dict[str, float]]:
    return [{"alpha": float(strength)} for strength in strengths]


def pooled(students: Students) -> Weights:
    """One least-squares regression for all: the same weights for each school."""
    weights = np.linalg.lstsq(students.inputs, students.scores)[0]
    return np.tile(weights, (1, students.schools.max() + 1, 1))


def ridge(students: Students, strengths: Float[np.ndarray, " strengths"]) -> Weights:
    """For each school by itself the least 1/(2n) ‖y − Xw‖² + α/2 ‖w‖²."""
    width = students.inputs.shape[1]
    weights = []
    for number in range(students.schools.max() + 1):
        own = students[students.schools == number]
        gramian = own.inputs.T @ own.inputs / len(own.scores)
        moments = own.inputs.T @ own.scores / len(own.scores)
        systems = gramian + strengths[:, None, None] * np.eye(width)
        weights.append(np.linalg.solve(systems, moments[:, None])[..., 0])
    return np.stack(weights, axis=1)


def path(
    model: MultiTaskLinearModel, settings: Sequence[dict[str, float]], students: Students
) -> Weights:
    """An estimator's weights for each setting, each fit from where the last one ended."""
    model.set_params(fit_intercept=False, warm_start=True, tol=TOLERANCE)
    return np.stack(
        [
            model.set_params(**setting)
            .fit(students.inputs, students.scores, tasks=students.schools)
            .coef_
            for setting in settings
        ]
    )


def tuned(
    method: Method, training: Students, folds: Int[np.ndarray, " students"]
) -> tuple[Float[np.ndarray, "schools features"], int]:
    """The weights at the strength with the least squared error over the folds, and its number."""
    errors = sum(
        squared_errors(method(training[folds != fold]), training[folds == fold])
        for fold in range(FOLDS)
    )
    choice = int(np.argmin(errors))
    return method(training)[choice], choice


def squared_errors(weights: Weights, students: Students) -> Float[np.ndarray, " strengths"]:
    """The sum of squared errors for each strength."""
    predicted = np.stack([predict(one, students) for one in weights])
    return ((students.scores - predicted) ** 2).sum(axis=1)


def predict(
    weights: Float[np.ndarray, "schools features"], students: Students
) -> Float[np.ndarray, " students"]:
    """Each student's score by the weights of the own school."""
    return np.einsum("sf,sf->s", students.inputs, weights[students.schools])


def explained_variances(
    weights: Float[np.ndarray, "schools features"], students: Students
) -> dict[str, float]:
    """Both definitions, in percent."""
    squares = ((students.scores - predict(weights, students)) ** 2).sum()
    counts = np.bincount(students.schools)
    means = np.bincount(students.schools, weights=students.scores) / np.maximum(counts, 1)
    total = ((students.scores - students.scores.mean()) ** 2).sum()
    within = ((students.scores - means[students.schools]) ** 2).sum()
    return {
        "explained variance of all students": float(100 * (1 - squares / total)),
        "explained variance within schools": float(100 * (1 - squares / within)),
    }
