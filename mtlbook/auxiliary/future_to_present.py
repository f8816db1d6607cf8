r"""Section 7.7, using the future to predict the present: the product of stepwise least squares.

What is measured between now, x_1, and the outcome, y, is known in training and not when the
prediction is due. A network predicts it as an auxiliary task (Caruana, 1997, section 4.1). Its
linear rival, learning using privileged time series (LuPTS; Karlsson et al., 2022),
goes along the chain x_1 → x_2 → … → x_T → y: with X_t the measurements at time t,

    Â_t = argmin_A ‖X_{t+1} − X_t A‖²,    β̂ = argmin_β ‖y − X_T β‖²,    θ̂ = Â_1 ⋯ Â_{T−1} β̂,

and predicts x_1 θ̂ from the present alone. Where the chain is linear and Gaussian, and nothing of
x_t reaches x_{t+2} but through x_{t+1}, the variance of θ̂ is at most that of least squares of y on
x_1 (ibid.). One step (T = 1) is least squares.

**Where it fails.** θ̂ knows only what passes through the measurements: what x_1 says about y beside
them is lost, and no number of rows brings it back. A step that carries all of x_1 along loses
nothing, and is least squares again. There is no weight λ that could turn the future off.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression

from mtlbook.auxiliary.auxiliary_task import equal_columns
from mtlbook.errors import UsageError


class LuPTS(BaseEstimator):
    """A regression, or a classification, through measurements that are made later.

    A scikit-learn estimator, whose `fit` is also given what was measured later, and whose
    predictions need the present alone.

    Arguments:
        order: the names of the later times, from the first to the last: data do not say it.
        step: the regression from each time to the next, by default `LinearRegression()`; a `Ridge`
            where there are more columns than rows.
        last: the model from the last time to the outcome, by default a copy of `step`;
            `LogisticRegression()` for a class, as the authors' code has it.
        carried: names of columns of the present that a later time repeats because they do not
            change, such as a year of birth. Other repeated columns are refused.

    Attributes:
        steps_: the fitted regressions from time to time.
        last_: the fitted model of the outcome.
        coef_, intercept_: θ̂ and its constant, of the present's columns, where all steps are linear.

    Example:
        >>> now = np.arange(10.0)[:, None]
        >>> labs = np.hstack([now**2, (now - 4) ** 2])
        >>> model = LuPTS(order=["day 3"]).fit(now, now[:, 0] ** 3, later={"day 3": labs})
        >>> model.predict([[2.0]]).round(3)
        array([14.])
    """

    def __init__(
        self,
        order: Sequence[str] = (),
        *,
        step: Any = None,
        last: Any = None,
        carried: Sequence[str] = (),
    ) -> None:
        self.order = order
        self.step = step
        self.last = last
        self.carried = carried

    def fit(self, X: ArrayLike, y: ArrayLike, *, later: Mapping[str, ArrayLike]) -> "LuPTS":  # noqa: N803
        """Fit each step and the last one.

        Arguments:
            X: what is known when the prediction is due, a row an example; an array, or a frame
                whose columns have names.
            y: the outcome.
            later: by time, what is measured then, on the same rows.

        Raises:
            UsageError: for an order that does not name the later times, rows that do not match,
                values that are missing, a later measurement that is constant or that is a column
                of the present, also shifted and scaled.
        """
        if not isinstance(later, Mapping) or isinstance(self.order, str):
            raise UsageError(
                "Later measurements come by the name of their time, and their order as a list of "
                'these names: LuPTS(order=["day 1", "day 3"]).fit(X, y, later={"day 1": …}).'
            )
        if sorted(self.order) != sorted(later):
            raise UsageError(
                f"The order of time is {list(self.order)}, and there are measurements of "
                f"{sorted(later)}: name each time once, the earliest first."
            )
        present, names = _table(X, "present")
        course = [present]
        for time in self.order:
            values, own = _table(later[time], time)
            if len(values) != len(present):
                raise UsageError(
                    f"{time!r} has {len(values)} rows where the present has {len(present)}: give "
                    "the same examples in the same order."
                )
            _check(time, values, own, present, names, self.carried)
            course.append(values)
        step: Any = LinearRegression() if self.step is None else self.step
        self.steps_: list[Any] = [_copy(step).fit(a, b) for a, b in pairwise(course)]
        self.last_: Any = _copy(step if self.last is None else self.last)
        self.last_.fit(course[-1], np.asarray(y))
        self.n_features_in_ = present.shape[1]
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """The outcome, from the present alone."""
        return self.last_.predict(self.expected(X))

    def predict_proba(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """The probability of each class, where the last model is a classifier."""
        return self.last_.predict_proba(self.expected(X))

    def score(self, X: ArrayLike, y: ArrayLike) -> float:  # noqa: N803
        """The last model's own score: R², or the accuracy of a classifier."""
        return self.last_.score(self.expected(X), np.asarray(y))

    def expected(self, X: ArrayLike) -> Float[np.ndarray, "rows measurements"]:  # noqa: N803
        """What is expected to be measured at the last time."""
        reached, _ = _table(X, "present")
        for step in self.steps_:
            reached = np.asarray(step.predict(reached)).reshape(len(reached), -1)
        return reached

    @property
    def coef_(self) -> Float[np.ndarray, " columns"]:
        """The product of all steps' coefficients."""
        theta = np.eye(self.n_features_in_)
        for step in self.steps_:
            theta = theta @ np.atleast_2d(step.coef_).T
        return (theta @ np.atleast_2d(self.last_.coef_).T)[:, 0]

    @property
    def intercept_(self) -> float:
        """The prediction where all of the present is 0."""
        reached = self.expected(np.zeros((1, self.n_features_in_)))
        outcome = reached @ np.atleast_2d(self.last_.coef_).T + self.last_.intercept_
        return float(outcome.item())


def future_columns(
    present: ArrayLike, later: ArrayLike, carried: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """The columns of the present that are columns of the future, also shifted and scaled.

    Arguments:
        present: the inputs.
        later: what is measured later.
        carried: columns of the present that may be there again.

    Example:
        >>> import pandas as pd
        >>> now = pd.DataFrame({"age": range(9), "sugar": [4, 5, 4, 6, 5, 9, 8, 4, 5]})
        >>> future_columns(now, pd.DataFrame({"sugar, day 3 (mg)": 18 * now.sugar + 1}))
        [('sugar', 'sugar, day 3 (mg)')]
    """
    inputs, names = _table(present, "present")
    values, own = _table(later, "later")
    equal = equal_columns(torch.tensor(inputs), torch.tensor(values))
    return [(names[i], own[j]) for i, j in equal if names[i] not in set(carried)]


def _copy(model: Any) -> Any:
    """An unfitted copy: `clone`, which type checkers take for a container's."""
    return clone(model)


def _check(
    time: str,
    values: Float[np.ndarray, "rows measurements"],
    own: Sequence[str],
    present: Float[np.ndarray, "rows columns"],
    names: Sequence[str],
    carried: Sequence[str],
) -> None:
    """Refuse measurements that do not vary, or that are known already."""
    unknown = sorted(set(carried) - set(names))
    if unknown:
        raise UsageError(f"{unknown} are carried along, and the present has {list(names)} only.")
    constant = [name for name, column in zip(own, values.T, strict=True) if np.ptp(column) == 0]
    if constant:
        raise UsageError(f"{constant} of {time!r} do not vary and teach nothing: leave them out.")
    # Numbers in place of names, which may repeat.
    repeated = [i for i, name in enumerate(names) if name in set(carried)]
    pairs = future_columns(present, values, [str(i) for i in repeated])
    if pairs:
        found = ", ".join(f"{names[int(i)]!r} is {own[int(j)]!r}" for i, j in pairs)
        raise UsageError(
            f"The present knows the future: {found} of {time!r}, up to shift and scale. Take the "
            "columns out of the inputs, or name them in `carried` if they never change."
        )


def _table(values: ArrayLike, time: str) -> tuple[Float[np.ndarray, "rows columns"], list[str]]:
    """A table of finite numbers, and the names of its columns, by default their numbers."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise UsageError(
            f"The measurements of {time!r} have the shape {table.shape}: give a row an example "
            "and a column a measurement."
        )
    missing = int((~np.isfinite(table)).any(1).sum())
    if missing:
        raise UsageError(
            f"{missing} of {len(table)} rows of {time!r} hold missing values: drop them, or fill "
            "them from training rows and nothing later."
        )
    return table, [str(name) for name in getattr(values, "columns", range(table.shape[1]))]
