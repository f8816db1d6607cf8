"""The contestants of section 4: equal starts, choices by own labels, copies that teach nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.book.data.together import Switches, switched
from mtlbook.book.experiments import mechanisms_together
from mtlbook.book.experiments.factorial import half_fraction
from mtlbook.book.experiments.mechanisms_together import Experiment, Outcome, common_start
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf
from mtlbook.tasks import Task

FACTORS = [*Switches.__annotations__, "no_regularisation"]
TASKS = [Task.regression("main_1"), Task.regression("main_2")]


@pytest.fixture
def page(monkeypatch):
    for name, value in {"STEPS": 10, "TEST": 30}.items():
        monkeypatch.setattr(mechanisms_together, name, value)
    parameters = {"seeds": 2, "first_seed": 3, "device": "cpu", "dataset": "constructed"}
    return Page("4", parameters, dataset=OneOf("constructed"))


def started(inputs, width, branch_at=None):
    model = hard_sharing(dense(inputs, width), TASKS, width, branch_at=branch_at).double()
    common_start(model, 4)
    return model


def test_networks_of_a_seed_start_from_the_same_draws():
    joint, separate, wider, longer = (
        started(6, 16), started(6, 16, branch_at=0), started(6, 40), started(16, 16)
    )  # fmt: skip
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).view(2, 6)
    for name in ("main_1", "main_2"):
        torch.testing.assert_close(joint(x)[name], separate(x)[name])

    def hidden(model) -> torch.Tensor:
        return next(layer for layer in model.modules() if isinstance(layer, nn.Linear)).weight

    torch.testing.assert_close(hidden(wider)[:16], hidden(joint))
    torch.testing.assert_close(hidden(longer)[:, :6] * (16 / 6) ** 0.5, hidden(joint))


def test_the_chosen_errors_are_averaged_over_the_main_tasks():
    errors = np.arange(8.0).reshape(1, 2, 1, 4)  # a run, two tasks, a seed, four trials
    outcome = Outcome(errors, np.array([[[3], [0]]]))
    assert outcome.error.tolist() == [[(3 + 4) / 2]]
    assert outcome.untuned.tolist() == [[[2, 3, 4, 5]]]


def test_every_run_has_both_contestants(page):
    runs = half_fraction(FACTORS)[-4:]
    experiment = Experiment(page, runs, examples=20)
    for outcome in (experiment.single_task(), experiment.joint()):
        assert outcome.error.shape == (4, 2)
        assert np.isfinite(outcome.errors).all()
        assert set(outcome.choice.ravel()) <= set(range(4))
    copies = experiment.copies(3)
    assert copies.errors.shape == (1, 2, 2, 4)


def test_a_replica_is_a_seed_and_a_run(page):
    runs = half_fraction(FACTORS)
    experiment = Experiment(page, runs, examples=20)
    number = next(n for n, run in enumerate(runs) if run["irrelevant_inputs"])
    made = experiment.made(3 * len(runs) + number)
    assert made.data.inputs.shape == (70, 16)
    assert switched(Switches(), runs[number]).irrelevant_inputs


def test_a_run_by_itself_is_that_run_among_others(page):
    runs = half_fraction(FACTORS)[:2]
    both = Experiment(page, runs, examples=20).single_task().error
    again = Experiment(page, runs, examples=20, seeds=[4]).single_task().error
    np.testing.assert_allclose(again[:, 0], both[:, 1], rtol=1e-9)
