import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.results import Fit
from mtlbook.training.selection import select
from mtlbook.training.settings import Settings

TASKS = [Task.regression("large"), Task.regression("small")]


@pytest.fixture(scope="module")
def trials() -> dict[str, Fit]:
    inputs = torch.randn(90, 3, generator=generator(0, "inputs"), dtype=torch.float64)
    targets = {"large": 100 * inputs[:, 0], "small": inputs[:, 1] * inputs[:, 2]}
    data = MultiTaskData.multi_label(TASKS, inputs, targets)

    def build(data: MultiTaskData, seed: int) -> HardSharing:
        heads = {task.name: nn.Linear(6, 1) for task in TASKS}
        return HardSharing(lambda: [nn.Linear(3, 6), nn.Tanh()], heads)

    return {
        name: fit(build, data, seeds=range(6), settings=Settings(steps=60, learning_rate=rate))
        for name, rate in (("slow", 1e-3), ("quick", 3e-2))
    }


def table(trials: dict[str, Fit], part: str) -> np.ndarray:
    return np.array(
        [[fit.score(task.name, "loss", part) for task in TASKS] for fit in trials.values()]
    )


def test_each_task_gets_the_trial_of_its_own_least_validation_loss(trials):
    chosen = select(trials, each_task=True)
    validation, test = table(trials, "validation"), table(trials, "test")
    for column, task in enumerate(TASKS):
        best = validation[:, column].argmin(0)
        np.testing.assert_array_equal(
            chosen.score(task.name, "loss", "validation"), validation[:, column].min(0)
        )
        np.testing.assert_array_equal(
            chosen.score(task.name), test[best, column, np.arange(len(best))]
        )


def test_one_trial_for_all_tasks_is_not_decided_by_the_largest_loss(trials):
    chosen = select(trials)
    assert list(chosen.choices["large"]) == list(chosen.choices["small"])
    validation = table(trials, "validation")
    relative = (validation / validation.min(0)).mean(1)
    names = np.array(list(trials))[relative.argmin(0)]
    assert list(chosen.choices["small"]) == list(names)


def test_of_trials_that_are_equal_but_for_rounding_the_first_is_chosen(trials):
    def nearly(fit: Fit, factor: float) -> Any:
        results = fit.results.assign(value=fit.results["value"] * factor)
        return Fit(**{**vars(fit), "results": results})

    quick = trials["quick"]
    for each_task in (False, True):
        for factor, chosen in ((1 - 1e-12, "first"), (1 - 1e-6, "second")):
            pair = {"first": quick, "second": nearly(quick, factor)}
            assert (select(pair, each_task).choices == chosen).all(axis=None)


def test_test_data_has_no_say(trials):
    def with_other_tests(fit: Fit) -> Any:
        results = fit.results.copy()
        results.loc[results.part == "test", "value"] *= -1
        return Fit(**{**vars(fit), "results": results})

    changed = {name: with_other_tests(fit) for name, fit in trials.items()}
    assert select(changed).choices.equals(select(trials).choices)


def with_losses(fit: Fit, losses: dict[str, float]) -> Any:
    """The trial with these validation losses of its tasks, for every seed."""
    results = fit.results.copy()
    for task, loss in losses.items():
        rows = (results.task == task) & (results.part == "validation") & (results.metric == "loss")
        assert rows.any()
        results.loc[rows, "value"] = loss
    return Fit(**{**vars(fit), "results": results})


@pytest.mark.parametrize("each_task", [False, True])
def test_a_validation_loss_of_exactly_0_wins(trials, each_task):
    fits = {
        "first": with_losses(trials["quick"], {"large": 0.95, "small": 1.0}),
        "second": with_losses(trials["quick"], {"large": 0.0, "small": 1.0}),
    }
    chosen = select(fits, each_task).choices
    assert set(chosen["large"]) == {"second"}
    assert set(chosen["small"]) == {"first" if each_task else "second"}
    perfect = {name: with_losses(fit, {"large": 0.0, "small": 0.0}) for name, fit in fits.items()}
    assert (select(perfect, each_task).choices == "first").all(axis=None)


@pytest.mark.parametrize("each_task", [False, True])
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_never_wins(trials, each_task, loss):
    good, bad = trials["quick"], with_losses(trials["quick"], {"large": loss, "small": loss})
    for fits in ({"bad": bad, "good": good}, {"good": good, "bad": bad}):
        assert (select(fits, each_task).choices == "good").all(axis=None)
    with pytest.raises(UsageError, match=r"No trial has a finite validation loss .* for seed 0"):
        select({"bad": bad, "worse": bad}, each_task)


def test_no_trial_is_refused():
    with pytest.raises(UsageError, match="no trial to choose from"):
        select({})


def test_trials_that_cannot_be_compared_are_refused(trials):
    fewer = Fit(**{**vars(trials["quick"]), "seeds": (0, 1)})
    with pytest.raises(UsageError, match="'fewer' differs in tasks or seeds"):
        select({**trials, "fewer": fewer})
