"""Section 7.7: later measurements as outputs, as predicted inputs, and along a chain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from torch import Tensor

from mtlbook.auxiliary.future_to_present import LuPTS
from mtlbook.book.experiments.auxiliary_tasks import alone, beside
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import adamw_trials, tuned
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.tasks import Task
from mtlbook.training.selection import Selected

OverSeeds = Float[np.ndarray, " seeds"]
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of each step's ridge, for columns of variance 1
VALUES = (0.1, 1.0, 10.0)  # λ of what is measured later
DECAYS = (0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A main task whose inputs are known now, and tasks that are measured later.

    Every contestant has twelve trials and as many steps, chosen by the main task's validation loss.

    Attributes:
        page: whose seeds and device are used.
        data: from a seed to data in which every row has all labels.
        main: the task that counts.
        later: the tasks that are measured later.
        rates: three learning rates; contestants with more to try take the first two.
        settings: of the training: `split`, `steps`, `width`, ….
    """

    page: Page
    data: Callable[[int], MultiTaskData]
    main: str
    later: Sequence[str]
    rates: tuple[float, float, float]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def alone(self, data: Callable[[int], MultiTaskData] | None = None) -> Selected:
        """The main task alone: three learning rates by four weight decays."""
        trials = adamw_trials(self.rates, DECAYS)
        return alone(
            self.page, mlp, data or self.data, self.main, trials=trials, **self._settings()
        )

    def beside(self, data: Callable[[int], MultiTaskData] | None = None) -> Selected:
        """What is measured later as outputs: three λ, two learning rates, two weight decays."""
        return beside(
            self.page,
            mlp,
            data or self.data,
            self.main,
            self.later,
            values=VALUES,
            trials=adamw_trials(self.rates[:2], DECAYS[1:3]),
            **self._settings(),
        )

    def fed(self) -> tuple[Selected, Selected]:
        """Caruana's competitor: predict what is measured later, then feed the predictions.

        Half of the steps and four of the trials go to the first network, the others to the second,
        whose inputs are the present and the first one's predictions for every row.
        """
        settings = self._settings()
        settings["steps"] //= 2
        first = tuned(
            self.page,
            mlp,
            self.data,
            adamw_trials(self.rates[:2], DECAYS[1:3]),
            tasks=self.later,
            stopping="relative",
            **settings,
        )
        fed = cache(lambda seed: with_inputs(self.data(seed), self._predicted(first, seed)))
        trials = adamw_trials(self.rates[:2], DECAYS)
        return first, alone(self.page, mlp, fed, self.main, trials=trials, **settings)

    def oracle(self) -> Selected:
        """The measurements themselves as inputs, at test time, too: what nobody can have."""

        @cache
        def data(seed: int) -> MultiTaskData:
            made = self.data(seed)
            return with_inputs(made, torch.cat([made.targets[n] for n in self.later], dim=1))

        return self.alone(data)

    def _predicted(self, first: Selected, seed: int) -> Float[Tensor, "rows measurements"]:
        found = trained_network(first, seed)(self.data(seed).inputs)
        return torch.cat([found[name] for name in self.later], dim=1)

    def _settings(self) -> dict[str, Any]:
        return {"evaluate_on": ["validation", "test"]} | dict(self.settings)


def with_inputs(data: MultiTaskData, more: Float[Tensor, "rows columns"]) -> MultiTaskData:
    """The data with further input columns."""
    inputs = torch.cat([data.inputs, more], dim=1)
    return MultiTaskData.partial(data.tasks, inputs, data.targets, data.labelled)


def linear_losses(
    data: Callable[[int], MultiTaskData],
    seeds: Sequence[int],
    split: Holdout,
    main: str,
    order: Sequence[str],
) -> dict[str, OverSeeds]:
    """Test losses of linear models of the main task, with and without what is measured later.

    Least squares and LuPTS have nothing to tune. With a ridge in each step they have four penalties
    each, of which the validation loss chooses. A binary main task has a logistic regression as its
    last step.

    Arguments:
        data: from a seed to data in which every row has all labels.
        seeds: of the data and the split.
        split: as for networks.
        main: the task that counts.
        order: the tasks that are measured later, the earliest first.

    Returns:
        By the model's name a test loss for each seed: the mean squared error, or the log loss.
    """
    found = [_linear(data(seed), split, seed, main, order) for seed in seeds]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def _linear(
    data: MultiTaskData, split: Holdout, seed: int, main: str, order: Sequence[str]
) -> dict[str, float]:
    rows = split.draw(data, seed)
    x, y = data.inputs.numpy(), data.targets[main][:, 0].numpy()
    later = {name: data.targets[name][rows.train].numpy() for name in order}
    binary = _task(data, main).kind == "binary"

    def loss(model: Any, part: Tensor) -> float:
        if binary:
            return float(log_loss(y[part], model.predict_proba(x[part])[:, 1], labels=[0, 1]))
        return float(mean_squared_error(y[part], model.predict(x[part])))

    def fitted(penalty: float, through: bool) -> Any:
        step: Any = Ridge(penalty) if penalty else LinearRegression()
        # scikit-learn's logistic regression adds half of the squared weights to C times the loss.
        last = LogisticRegression(C=1 / penalty if penalty else np.inf, max_iter=1000) if binary else step
        own = order if through else ()
        model = LuPTS(own, step=step, last=last)
        return model.fit(x[rows.train], y[rows.train], later={name: later[name] for name in own})

    found = {}
    for name, through in (("least squares", False), ("LuPTS", True)):
        found[name] = loss(fitted(0.0, through), rows.test)
        tried = [fitted(penalty, through) for penalty in PENALTIES]
        best = min(tried, key=lambda model: loss(model, rows.validation))
        found[f"{name}, ridge"] = loss(best, rows.test)
    return found


def _task(data: MultiTaskData, name: str) -> Task:
    return next(task for task in data.tasks if task.name == name)
