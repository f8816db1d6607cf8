"""The contestants of section 4.1: equal starts, equal information, and an identity."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from mtlbook.book.experiments import noise_averaging
from mtlbook.book.experiments.noise_averaging import (
    HiddenLayer,
    carried,
    common_start,
    errors,
    joint,
    network,
    single_task,
)
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf
from mtlbook.data import Consecutive
from mtlbook.mechanisms.data_augmentation import noisy_copies
from mtlbook.training.fit import fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select
from mtlbook.training.settings import Settings

SPLIT = Consecutive(train=30, validation=20, test=40)


def made(seed, correlation=0.0):
    return noisy_copies(
        seed, tasks=3, inputs=4, features=2, train=30, validation=20, test=40,
        correlation=correlation,
    )  # fmt: skip


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(noise_averaging, "STEPS", 20)
    parameters = {"seeds": 2, "first_seed": 5, "device": "cpu", "dataset": "noisy_copies"}
    return Page("4.1", parameters, dataset=OneOf("noisy_copies"))


def test_a_task_starts_alike_in_every_network():
    alone, three = HiddenLayer(4, 8, ["task_2"]), HiddenLayer(4, 8, ["task_1", "task_2", "task_3"])
    common_start(alone.double(), 7, [1])
    common_start(three.double(), 7, range(3))
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).view(5, 4)
    torch.testing.assert_close(alone(x)["task_2"], three(x)["task_2"])
    assert not torch.equal(three(x)["task_1"], three(x)["task_2"])


def test_tasks_with_one_noise_and_one_start_train_like_a_single_task():
    """What was once section 4.1's control holds by construction: it can show no defect."""
    known = made(3, correlation=1.0)
    settings = Settings(
        split=SPLIT,
        steps=40,
        sampler=Mixed(None),
        stopping=None,
        optimiser=partial(torch.optim.AdamW, lr=0.03, weight_decay=0.3),
        device="cpu",
    )
    build = partial(network, width=4)
    trained = {}
    for data, tasks in ((known.alone(0), [0]), (known.data, [0, 0, 0])):

        def start(model, seed, tasks=tasks):
            common_start(model, seed, tasks)

        options = replace(settings, start=start)
        trained[len(tasks)] = fit(build, data, seeds=[0], settings=options).predictions
    single = trained[1]["alone"]
    for predicted in trained[3].values():
        np.testing.assert_allclose(predicted, single, atol=1e-5)  # AdamW's epsilon


def test_each_task_of_a_joint_network_chooses_by_its_own_labels(page):
    together = joint(page, made, SPLIT, 3)
    assert list(together.choices.columns) == ["task_1", "task_2", "task_3"]
    pd.testing.assert_frame_equal(
        together.choices, select(together.fits, each_task=True).choices, check_names=False
    )
    by_all = joint(page, made, SPLIT, 3, choice="sum")
    assert (by_all.choices.eq(by_all.choices["task_1"], axis=0)).all(axis=None)


def test_errors_have_a_row_a_seed_and_a_column_a_task(page):
    alone, together = single_task(page, made, SPLIT, 2), joint(page, made, SPLIT, 3)
    assert errors(alone, 2).shape == (2, 2)
    assert errors(together, 2).shape == (2, 3)
    # The replicas of a seed are its tasks: the second is that of task 2.
    (name,) = alone.choices
    chosen = alone.fits[alone.choices.loc[11, name]]
    truth = made(5).targets[-40:, [1]].numpy()
    expected = np.square(chosen.predictions[name][1] - truth).mean()
    assert errors(alone, 2)[0, 1] == pytest.approx(expected)


def test_the_noise_that_is_carried_is_told_apart_by_tasks(page):
    for selected in (single_task(page, made, SPLIT, 2), joint(page, made, SPLIT, 3)):
        found = carried(selected, made, page.seeds, 30)
        assert set(found) == {"its own noise", "another task's noise"}
        assert all(own.shape == (2,) and np.isfinite(own).all() for own in found.values())
