"""Section 7.7: networks with later measurements as outputs, as predicted inputs, and without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.book.data.worlds.severity import horizons, severity
from mtlbook.book.experiments.auxiliary_tasks import alone, beside, equal_trials
from mtlbook.book.experiments.cost import cost
from mtlbook.book.experiments.future_linear import linear_losses
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import error_reductions, trained_network
from mtlbook.book.experiments.training import adamw_trials, tuned
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import scaled
from mtlbook.tasks import Task
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected

OverSeeds = Float[np.ndarray, " seeds"]
VALUES = (0.1, 1.0, 10.0)  # λ of what is measured later
RATES = (0.01, 0.03, 0.1)
DECAYS = (0.3, 1.0, 3.0, 10.0)
WIDTH, BATCH, STEPS = 8, 50, 100
VALIDATION, TEST = 100, 1000
HORIZONS = (1, 2, 4, 8)
SINGLE, LATER, FED = "single-task", "later as outputs", "predict, then feed"
ORACLE, SHUFFLED = "oracle", "labels shuffled"


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
        kind = next(task.kind for task in data.tasks if task.name == self.main)
        within = self.main if kind == "binary" else None
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


def compared(setting: Setting) -> tuple[dict[str, OverSeeds], dict[str, dict[str, int]]]:
    """The contestants of the page on one data set, all with as many trials.

    Returns:
        By contestant the main task's test loss for each seed, and of the networks parameters and
        training FLOPs an example, of both stages where there are two.
    """
    first, second = setting.fed()
    chosen = {
        SINGLE: setting.alone(),
        LATER: setting.beside(),
        ORACLE: setting.oracle(),
        SHUFFLED: setting.shuffled(),
    }
    trials = equal_trials(*chosen.values())
    assert len(first.fits) + len(second.fits) == trials
    losses = {arm: own.score(setting.main, "loss") for arm, own in (chosen | {FED: second}).items()}
    seeds, split = setting.page.seeds, setting.settings["split"]
    losses |= linear_losses(setting.data, seeds, split, setting.main, setting.later)
    stages = {arm: [chosen[arm]] for arm in (SINGLE, LATER, ORACLE)} | {FED: [first, second]}
    return losses, {arm: _cost(setting, own) for arm, own in stages.items()}


def _cost(setting: Setting, stages: Sequence[Selected]) -> dict[str, int]:
    """Parameters and training FLOPs of the networks that make a prediction, added."""
    seed = setting.page.seeds[0]
    total: dict[str, int] = {}
    for stage in stages:
        network = trained_network(stage, seed).requires_grad_(True)
        columns = next(network.parameters()).shape[1]
        for what, own in cost(network, torch.zeros(10, columns, dtype=torch.float64)).items():
            total[what] = total.get(what, 0) + round(own)
    return total
