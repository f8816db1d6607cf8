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

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.auxiliary.future_to_present import LuPTS
from mtlbook.book.data.worlds.severity import course, horizons, severity
from mtlbook.book.experiments.auxiliary_tasks import alone, beside
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import error_reductions, trained_network
from mtlbook.book.experiments.training import adamw_trials, tuned
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import scaled
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected

OverSeeds = Float[np.ndarray, " seeds"]
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of each step's ridge, for columns of variance 1
VALUES = (0.1, 1.0, 10.0)  # λ of what is measured later
RATES = (0.01, 0.03, 0.1)
DECAYS = (0.3, 1.0, 3.0, 10.0)
WIDTH, BATCH, STEPS = 8, 50, 100
VALIDATION, TEST = 100, 1000
HORIZONS = (1, 2, 4, 8)
COURSE = ("time_2", "time_3")  # the later times of the world `course`


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

    def shuffled(self) -> Selected:
        """The control: the measurements are those of other patients."""
        return self.beside(cache(self.of_others))

    def of_others(self, seed: int) -> MultiTaskData:
        """The data with measurements of other patients: of the same class, if the main task has."""
        data = self.data(seed)
        within = self.main if _task(data, self.main).kind == "binary" else None
        for name in self.later:
            data = shuffled(data, name, seed, within=within)
        return data

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


def from_severity(
    page: Page, *, rows: int = 80, common: float = 1.0, noise: float = 1.0
) -> Setting:
    """A binary outcome of patients, and laboratory values that are known later."""

    @cache
    def data(seed: int) -> MultiTaskData:
        total = rows + VALIDATION + TEST
        return severity(seed, rows=total, common=common, noise=noise).data

    return _setting(page, data, "outcome", ["labs"], Holdout(rows, VALIDATION, TEST))


def from_horizons(page: Page, main: str, *, rows: int = 100, common: bool = True) -> Setting:
    """One horizon of the world `horizons` as the main task, the others beside it."""

    @cache
    def data(seed: int) -> MultiTaskData:
        return horizons(seed, rows=rows + VALIDATION + TEST, steps=HORIZONS, common=common).data

    others = [f"in_{step}" for step in HORIZONS if f"in_{step}" != main]
    return _setting(page, data, main, others, Holdout(rows, VALIDATION, TEST))


def from_diabetes(page: Page, *, rows: int = 50) -> Setting:
    """Age, sex, body mass index and blood pressure now; six values of the blood serum "later".

    In truth all ten were measured at once. That the serum is later is what the page plays.
    """
    raw = embedded.diabetes()
    tasks = (Task.regression("progression"), Task.regression("serum", outputs=6))
    targets = {"progression": raw.targets["progression"], "serum": raw.inputs[:, 4:]}
    patients = MultiTaskData.multi_label(tasks, raw.inputs[:, :4], targets)
    split = Holdout(train=rows, validation=60, test=200)
    data = cache(lambda seed: scaled(patients, split, seed))
    return _setting(page, data, "progression", ["serum"], split)


def _setting(
    page: Page,
    data: Callable[[int], MultiTaskData],
    main: str,
    later: Sequence[str],
    split: Holdout,
) -> Setting:
    settings = {
        "split": split,
        "steps": STEPS,
        "width": WIDTH,
        "sampler": Mixed(BATCH),
        "validate_every": 10,
    }
    return Setting(page=page, data=data, main=main, later=later, rates=RATES, settings=settings)


def gains(page: Page, *, common: bool = True) -> dict[str, OverSeeds]:
    """The relative loss reductions, %, of the nearest and the farthest horizon by the others."""
    found = {}
    for step in (HORIZONS[0], HORIZONS[-1]):
        name = f"in_{step}"
        setting = from_horizons(page, name, common=common)
        own, joint = (each.score(name, "loss") for each in (setting.alone(), setting.beside()))
        found[name] = error_reductions(joint, own)
    return found


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
    penalties: Sequence[float] = PENALTIES,
) -> dict[str, OverSeeds]:
    """Test losses of linear models of the main task, with and without what is measured later.

    Least squares and LuPTS have nothing to tune. With a ridge in each step they try four penalties
    each, of which the validation loss chooses. A binary main task has a logistic regression as its
    last step.

    Arguments:
        data: from a seed to data in which every row has all labels.
        seeds: of the data and the split.
        split: as for networks.
        main: the task that counts.
        order: the tasks that are measured later, the earliest first.
        penalties: of the ridges that are tried.

    Returns:
        By the model's name a test loss for each seed: the mean squared error, or the log loss.
    """
    found = [_linear(data(seed), split, seed, main, order, penalties) for seed in seeds]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def course_losses(
    seeds: Sequence[int], *, rows: int = 60, direct: float = 0.0
) -> dict[str, OverSeeds]:
    """Linear models on the world `course`, whose outcome may go past the measurements."""

    def data(seed: int) -> MultiTaskData:
        return course(seed, rows=rows + VALIDATION + TEST, direct=direct).data

    return linear_losses(data, seeds, Holdout(rows, VALIDATION, TEST), "y", COURSE)


def _linear(
    data: MultiTaskData,
    split: Holdout,
    seed: int,
    main: str,
    order: Sequence[str],
    penalties: Sequence[float],
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
        last = (
            LogisticRegression(C=1 / penalty if penalty else np.inf, max_iter=1000)
            if binary
            else step
        )
        own = order if through else ()
        model = LuPTS(own, step=step, last=last)
        return model.fit(x[rows.train], y[rows.train], later={name: later[name] for name in own})

    found = {}
    for name, through in (("least squares", False), ("LuPTS", True)):
        found[name] = loss(fitted(0.0, through), rows.test)
        tried = [fitted(penalty, through) for penalty in penalties]
        best = min(tried, key=lambda model: loss(model, rows.validation))
        found[f"{name}, ridge"] = loss(best, rows.test)
    return found


def _task(data: MultiTaskData, name: str) -> Task:
    return next(task for task in data.tasks if task.name == name)


def leaks(
    seeds: Sequence[int], *, rows: int = 60, test: int = 1000, gaps: float = 0.5
) -> dict[str, dict[str, OverSeeds]]:
    """What a table that knows the future promises, and what is delivered when the future is not in.

    In the world `horizons`, the severity in four steps is predicted by least squares from the 20
    inputs and the severity measured now, of which a part is missing. Three ways to prepare that
    column: gaps filled with the training rows' mean; with the patient's *next* value; the column
    centred by each patient's mean over now and the next two values.

    Arguments:
        seeds: of the data.
        rows: for training.
        test: rows that are predicted.
        gaps: the share of missing values.

    Returns:
        For each way the mean squared error of each seed, `promised` by test rows prepared like the
        training rows, and `delivered` where the later values of the test rows are not there yet.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        made = horizons(seed, rows=rows + test)
        targets = made.data.targets
        now = (made.data.inputs @ made.heads["in_1"])[:, None]
        source = generator(seed, "leaks", "gaps")
        gap = torch.rand(rows + test, 1, generator=source, dtype=now.dtype) < gaps
        mean = now[:rows][~gap[:rows]].mean()
        plain = torch.where(gap, mean, now)
        whole = torch.cat([plain, targets["in_1"], targets["in_2"]], dim=1).mean(1, keepdim=True)
        ways = {
            "filled with the training mean": (plain, plain),
            "filled with the next value": (torch.where(gap, targets["in_1"], now), plain),
            "centred by the course's mean": (plain - whole, plain - plain),
        }
        for way, (prepared, known) in ways.items():
            x, later = (torch.cat([made.data.inputs, c], dim=1).numpy() for c in (prepared, known))
            y = targets["in_4"][:, 0].numpy()
            model = LinearRegression().fit(x[:rows], y[:rows])
            errors = found.setdefault(way, {"promised": [], "delivered": []})
            for what, table in (("promised", x), ("delivered", later)):
                errors[what].append(
                    float(mean_squared_error(y[rows:], model.predict(table[rows:])))
                )
    return {way: {what: np.array(e) for what, e in own.items()} for way, own in found.items()}
