"""The study of NHANES for section 4.5: equal budgets, its noise, its losses of a constant."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from mtlbook.book.studies import nhanes_regularisation as study
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from tests.book.studies.stand_ins import people


def answers() -> MultiTaskData:
    """A regression and a yes-or-no task on made-up inputs."""
    draws = generator(0, "made-up answers")
    x = torch.randn(80, 3, generator=draws, dtype=torch.float64)
    tasks = [Task.regression("score"), Task.binary("diagnosis")]
    return MultiTaskData.multi_label(tasks, x, {"score": x[:, 0], "diagnosis": x[:, 1] > 0.5})


def trials(grid: study.Grid) -> int:
    return len(list(product(grid.rates, grid.widths, grid.penalties, grid.dropouts)))


def test_every_regulariser_has_as_many_trials_and_sharing_alone_as_many_as_all():
    counts = {trials(grid) for grid in study.GRIDS.values()}
    assert len(counts) == 1
    assert trials(study.ALONE) == counts.pop() * len(study.GRIDS)


def test_shuffled_labels_are_the_same_labels_elsewhere():
    table, again = people(), people()
    one, other = study.shuffled(table, 0), study.shuffled(table, 1)
    for name, values in again.targets.items():
        assert torch.equal(one.targets[name].sort(0).values, values.sort(0).values)
        assert not torch.equal(one.targets[name], values)
        assert not torch.equal(one.targets[name], other.targets[name])
    # By themselves: the order of one task's labels tells nothing about the other's.
    place = one.targets["mood"].flatten().argsort().argsort()
    rank = again.targets["mood"].flatten().argsort().argsort()
    moved = again.targets["diagnosis"].flatten()[rank.argsort()[place]]
    assert not torch.equal(moved, one.targets["diagnosis"].flatten())


def test_the_losses_of_a_constant_are_the_variance_and_the_entropy():
    data = answers()
    losses = study.constant_losses(data)
    score, diagnosis = (data.targets[task.name].numpy().ravel() for task in data.tasks)
    assert losses["score"] == pytest.approx(np.var(score))
    share = np.full(len(diagnosis), diagnosis.mean())
    assert losses["diagnosis"] == pytest.approx(log_loss(diagnosis, share))


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(study.nhanes, "load", people)
    monkeypatch.setattr(study, "SPLIT", Holdout(train=100, validation=50, test=50))
    monkeypatch.setattr(study, "STEPS", 40)
    monkeypatch.setattr(study, "STEPS_ON_NOISE", 200)
    grids = {name: replace(grid, rates=(0.05,), widths=(8,)) for name, grid in study.GRIDS.items()}
    monkeypatch.setattr(study, "GRIDS", grids)
    monkeypatch.setattr(study, "ALONE", study.Grid(rates=(0.05,), widths=(8,)))
    results = study.run([0, 1], "cpu")
    assert results.columns.tolist() == [
        "seed", "measure", "network", "regulariser", "metric", "value",
    ]  # fmt: skip
    networks = results[results.measure == "test loss"].groupby("network").regulariser.unique()
    three = {*study.GRIDS, "best of the three"}
    assert set(networks["separate"]) == three
    assert set(networks["shared"]) == {*three, "early stopping, as many trials"}
    counts = results.groupby(["measure", "network", "regulariser"]).size().to_numpy()
    assert (counts == 2).all()
    # The inputs tell the answers: a network does far better than a constant.
    losses = results[results.measure == "test loss"].value
    assert losses.between(0, 0.6).all()
    on_noise = results[results.measure == "fit to shuffled labels"]
    assert set(on_noise.network) == {"separate", "shared", "shared, same width"}
    # And they tell nothing about shuffled ones, of which a few rows can be learnt by heart.
    assert on_noise.value.between(0.02, 0.9).all()


def test_losses_relative_to_a_constant_have_no_unit(monkeypatch):
    def in_other_units():
        table = people()
        return replace(table, targets=table.targets | {"mood": 100 * table.targets["mood"]})

    monkeypatch.setattr(study, "SPLIT", Holdout(train=100, validation=50, test=50))
    monkeypatch.setattr(study, "STEPS", 20)
    monkeypatch.setattr(study, "STEPS_ON_NOISE", 20)
    monkeypatch.setattr(study, "GRIDS", {"early stopping": study.Grid(rates=(0.03,), widths=(8,))})
    monkeypatch.setattr(study, "ALONE", study.Grid(rates=(0.03,), widths=(8,)))
    found = []
    for load in (people, in_other_units):
        monkeypatch.setattr(study.nhanes, "load", load)
        found.append(study.run([0], "cpu").value.to_numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
