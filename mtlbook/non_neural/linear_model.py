r"""What the linear estimators of section 5 have in common: inputs, intercepts and predictions.

All minimise Σ_t 1/(2 n_t) ‖y_t − X_t w_t − c_t‖² + Ω(W) over weights W = [w_1 … w_T] and intercepts
c_t, where task t has n_t examples. A task's loss is a *mean*, so that tasks of different sizes
count the same; where all tasks share one design this is the scaling of scikit-learn's
`MultiTaskLasso`.

There are two ways to pass data, both scikit-learn's:

* `fit(X, Y)`: a shared design, one column of Y a task (or one task, with `y` of one dimension);
* `fit(X, y, tasks=labels)`: a design for each task. `labels` names the task of each row of X and
  `y`, as `groups` does in scikit-learn. `predict` and `score` take `tasks` in the same way.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from mtlbook.errors import UsageError
from mtlbook.non_neural.proximal_gradient import (
    Design,
    Outputs,
    Penalty,
    RowPenalty,
    SeparateDesigns,
    SharedDesign,
    Solution,
    Weights,
    minimise,
    minimise_over_working_sets,
)

Estimator = TypeVar("Estimator", bound="MultiTaskLinearModel")


@dataclass(eq=False, repr=False, kw_only=True)
class MultiTaskLinearModel(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """Penalised least squares over tasks; a subclass says which penalty.

    Its constructor keeps the parameters, its fields, as they are, and `fit` checks them: so
    scikit-learn wants it, and therefore they may be anything.

    Arguments:
        fit_intercept: whether each task has an intercept, which is not penalised.
        max_iter: the most iterations of FISTA; running out of them is a `ConvergenceWarning`.
        warm_start: start from the weights of the last fit, if they are of the same shape: for a
            path of strengths, the largest first.
        tol: the fit ends when the certified duality gap is at most `tol` times Σ_t ‖y_t‖² / n_t
            (of centred targets, with intercepts).

    Attributes:
        coef_: the weights, tasks × features (features, where `y` had one dimension and there were
            no `tasks`).
        intercept_: one number a task, or one number.
        tasks_: the labels of the tasks in the order of `coef_`; None where there were none.
        dual_gap_: how much the objective can at most exceed its minimum.
        n_iter_: the iterations of FISTA.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    fit_intercept: Any = True
    max_iter: Any = 10_000
    tol: Any = 1e-8
    warm_start: Any = False
    # What `fit` finds is no parameter of the constructor.
    coef_: Float[np.ndarray, "*tasks features"] = field(init=False)
    intercept_: Any = field(init=False)
    tasks_: Any = field(init=False)
    dual_gap_: float = field(init=False)
    n_iter_: int = field(init=False)
    feature_names_in_: Any = field(init=False)

    @abstractmethod
    def _penalty(self) -> Penalty:
        """Ω, from checked parameters."""

    def fit(self: Estimator, X: Any, y: Any, tasks: Any = None) -> Estimator:  # noqa: N803
        """Fits the weights of all tasks.

        Arguments:
            X: the inputs, examples × features.
            y: the targets: examples × tasks for a shared design, or one a row of X.
            tasks: the label of the task of each row, where each task has a design of its own.

        Raises:
            UsageError: for parameters out of range, missing labels of tasks, or such of several
                types.
        """
        penalty = self._penalty()
        self._check_solver()
        X, y = validate_data(  # noqa: N806
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True
        )
        y = np.asarray(y, dtype=np.float64)
        if tasks is None:
            self.tasks_ = None
            prepared = _shared(X, y.reshape(len(y), -1), self.fit_intercept)
        else:
            if y.ndim != 1:
                raise UsageError(
                    f"With tasks, each row has one target, that of its own task, but y has shape "
                    f"{y.shape}: pass y of shape ({len(y)},), or leave tasks out for a shared "
                    "design."
                )
            self.tasks_, task_of_row = np.unique(_task_labels(X, tasks), return_inverse=True)
            prepared = _separate(X, y, task_of_row, self.fit_intercept)
        design, outputs, input_means, output_means = prepared

        start = self._start((X.shape[1], len(output_means)))
        solution = self._solve(design, outputs, penalty, start)
        coefficients = solution.weights.T
        intercepts = output_means - (input_means * coefficients).sum(axis=1)
        one_output = tasks is None and y.ndim == 1
        self.coef_ = coefficients[0] if one_output else coefficients
        self.intercept_ = float(intercepts[0]) if one_output else intercepts
        self.dual_gap_ = solution.gap
        self.n_iter_ = solution.iterations
        return self

    def _start(self, shape: tuple[int, int]) -> Weights:
        """The last fit's weights with `warm_start`, else 0."""
        if self.warm_start and hasattr(self, "coef_"):
            last = np.atleast_2d(self.coef_).T
            if last.shape == shape:
                return last
        return np.zeros(shape)

    def _solve(
        self, design: Design, outputs: Outputs, penalty: Penalty, start: Weights
    ) -> Solution:
        settings = {
            "start": start,
            "tolerance": self.tol * float(np.vdot(outputs, outputs)),
            "max_iterations": self.max_iter,
        }
        design, outputs = design.compressed(outputs)
        if isinstance(penalty, RowPenalty):
            solution = minimise_over_working_sets(design, outputs, penalty, **settings)
        else:
            solution = minimise(design, outputs, penalty, **settings)
        if solution.gap > settings["tolerance"]:
            warnings.warn(
                f"The duality gap is {solution.gap:.3g} after {solution.iterations} iterations, "
                f"above the tolerance {settings['tolerance']:.3g}: increase max_iter, standardise "
                "the features, or increase the penalty.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return solution

    def predict(self, X: Any, tasks: Any = None) -> Float[np.ndarray, "examples *tasks"]:  # noqa: N803
        """X w_t + c_t: for all tasks, or with `tasks` for each row's own."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        predictions = X @ self.coef_.T + self.intercept_
        if tasks is None:
            return predictions
        return predictions[np.arange(len(X)), self._positions(X, tasks)]

    def score(self, X: Any, y: Any, sample_weight: Any = None, tasks: Any = None) -> float:  # noqa: N803
        """R², of each task on its own, then averaged over the tasks (as scikit-learn does).

        That is not the R² of all rows at once, which also counts the differences of the tasks'
        means as explained variance. R² needs two rows: with `tasks`, a task of which fewer are
        scored (or have a weight above 0) is left out of the average.

        Raises:
            UsageError: where no task has two scored rows; for labels that `fit` would refuse.
        """
        if tasks is None:
            return float(r2_score(y, self.predict(X), sample_weight=sample_weight))
        y = column_or_1d(y)
        predictions, labels = self.predict(X, tasks), _task_labels(X, tasks)
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        check_consistent_length(predictions, y, weights)
        rows_of_tasks = [(labels == label) & (weights > 0) for label in np.unique(labels)]
        scores = [
            r2_score(y[rows], predictions[rows], sample_weight=weights[rows])
            for rows in rows_of_tasks
            if rows.sum() >= 2
        ]
        if not scores:
            raise UsageError(
                "R² needs two scored rows of a task, and no task has them: score more rows, for "
                "example by fewer folds."
            )
        return float(np.mean(scores))

    def _positions(self, X: np.ndarray, tasks: Any) -> Int[np.ndarray, " examples"]:  # noqa: N803
        """The row of `coef_` of each label."""
        if self.tasks_ is None:
            raise UsageError(
                f"This {type(self).__name__} was fitted without tasks: leave tasks out, and take "
                "the column of your task from the predictions."
            )
        labels = _task_labels(X, tasks)
        known = set(self.tasks_.tolist())
        # By Python's own equality: NumPy would take the number 1 for the string "1".
        unknown = [label for label in np.unique(labels).tolist() if label not in known]
        if unknown:
            raise UsageError(
                f"There are no weights for the tasks {unknown}: this "
                f"{type(self).__name__} was fitted to {self.tasks_.tolist()}."
            )
        return np.searchsorted(self.tasks_, labels)

    def _check_solver(self) -> None:
        whole = _is_number(self.max_iter, Integral) and self.max_iter >= 1
        self._check("max_iter", bool(whole), "an int in the range [1, inf)")
        positive = _is_number(self.tol, Real) and self.tol >= 0
        self._check("tol", bool(positive), "a float in the range [0.0, inf)")
        self._check(
            "warm_start", isinstance(self.warm_start, bool | np.bool_), "an instance of 'bool'"
        )
        self._check(
            "fit_intercept",
            isinstance(self.fit_intercept, bool | np.bool_),
            "an instance of 'bool'",
        )

    def _check_strength(self, name: str) -> float:
        """A penalty's strength: positive and finite, else there is no certificate."""
        value = getattr(self, name)
        positive = _is_number(value, Real) and 0 < value < np.inf
        self._check(name, bool(positive), "a float in the range (0.0, inf)")
        return float(value)

    def _check(self, name: str, valid: bool, description: str) -> None:
        """Refuses an invalid parameter in scikit-learn's words."""
        if not valid:
            raise UsageError(
                f"The {name!r} parameter of {type(self).__name__} must be {description}. "
                f"Got {getattr(self, name)!r} instead."
            )


def _task_labels(X: np.ndarray, tasks: Any) -> Shaped[np.ndarray, " examples"]:  # noqa: N803
    """The label of each row, of one type that can be ordered.

    Raises:
        UsageError: for a missing label, or labels of several types.
    """
    # NumPy would turn a list of numbers and strings into strings.
    labels = column_or_1d(np.asarray(tasks, dtype=None if hasattr(tasks, "dtype") else object))
    check_consistent_length(X, labels)
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise UsageError(
            f"{len(missing)} of {len(labels)} rows have no task label, the row {missing[0]} for "
            "one: give each its task, or drop these rows."
        )
    if labels.dtype != object:
        return labels
    kinds = sorted({"number" if _is_number(v, Real) else type(v).__name__ for v in labels})
    if len(kinds) > 1:
        raise UsageError(
            f"The task labels are of several types, {', '.join(kinds)}: make all of them strings, "
            "or all of them numbers."
        )
    return np.array(labels.tolist())


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


InputMeans = Float[np.ndarray, "_ features"]  # of each task, or one row for all
OutputMeans = Float[np.ndarray, " tasks"]


def _shared(
    inputs: Float[np.ndarray, "examples features"],
    targets: Float[np.ndarray, "examples tasks"],
    centred: bool,
) -> tuple[SharedDesign, Outputs, InputMeans, OutputMeans]:
    """Design and outputs, divided by √n so that ½ ‖·‖² is 1/(2n) ‖·‖², and their means."""
    input_means, output_means = _mean(inputs, centred), _mean(targets, centred)
    root = np.sqrt(len(inputs))
    design = SharedDesign((inputs - input_means) / root)
    return design, (targets - output_means) / root, input_means[None], output_means


def _separate(
    inputs: Float[np.ndarray, "examples features"],
    targets: Float[np.ndarray, " examples"],
    task_of_row: Int[np.ndarray, " examples"],
    centred: bool,
) -> tuple[SeparateDesigns, Outputs, InputMeans, OutputMeans]:
    """The same for each task by itself."""
    counts = np.bincount(task_of_row)
    design = np.zeros((len(counts), counts.max(), inputs.shape[1]))
    outputs = np.zeros((len(counts), counts.max()))
    input_means = np.zeros((len(counts), inputs.shape[1]))
    output_means = np.zeros(len(counts))
    for task, count in enumerate(counts):
        rows = task_of_row == task
        own, targets_of_own, means, mean = _shared(inputs[rows], targets[rows, None], centred)
        design[task, :count], outputs[task, :count] = own.inputs, targets_of_own[:, 0]
        input_means[task], output_means[task] = means[0], mean[0]
    return SeparateDesigns(design), outputs, input_means, output_means


def _mean(
    values: Float[np.ndarray, "examples columns"], centred: bool
) -> Float[np.ndarray, " columns"]:
    return values.mean(axis=0) if centred else np.zeros(values.shape[1])
