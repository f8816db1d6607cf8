"""The study of NHANES for section 4.5: equal budgets, its noise, its losses of a constant."""

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from mtlbook.book import studies
from mtlbook.book.studies import nhanes_regularisation as study
from mtlbook.data import Holdout, MultiTaskData, registry
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SMALL = Holdout(train=40, validation=20, test=20)


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
    data, again = answers(), answers()
    one, other = study.shuffled(data, 0), study.shuffled(data, 1)
    for name, values in again.targets.items():
        assert torch.equal(one.targets[name].sort(0).values, values.sort(0).values)
        assert not torch.equal(one.targets[name], values)
        assert not torch.equal(one.targets[name], other.targets[name])
    # By themselves: the order of one task's labels tells nothing about the other's.
    place = one.targets["score"].flatten().argsort().argsort()
    rank = again.targets["score"].flatten().argsort().argsort()
    moved = again.targets["diagnosis"].flatten()[rank.argsort()[place]]
    assert not torch.equal(moved, one.targets["diagnosis"].flatten())


def test_the_losses_of_a_constant_are_the_variance_and_the_entropy():
    data = answers()
    losses = study.constant_losses(data)
    score, diagnosis = (data.targets[task.name].numpy().ravel() for task in data.tasks)
    assert losses["score"] == pytest.approx(np.var(score))
    share = np.full(len(diagnosis), diagnosis.mean())
    assert losses["diagnosis"] == pytest.approx(log_loss(diagnosis, share))


def test_the_record_holds_every_network_and_regulariser():
    results = studies.read("nhanes_regularisation").results
    networks = results[results.measure == "test loss"].groupby("network").regulariser.unique()
    three = {*study.GRIDS, "best of the three"}
    assert set(networks["separate"]) == three
    assert set(networks["shared"]) == {*three, "early stopping, as many trials"}
    counts = results.groupby(["measure", "network", "regulariser"]).size().to_numpy()
    assert (counts == study.SEEDS).all()


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    for name in study.DATA:
        if not registry.available(name):
            pytest.skip(f"{name} is not in {registry.cache_folder()}: mtlbook data fetch {name}")
    monkeypatch.setattr(study, "SPLIT", SMALL)
    monkeypatch.setattr(study, "STEPS", 20)
    results = study.run([0], "cpu")
    assert results.columns.tolist() == [
        "seed", "measure", "network", "regulariser", "metric", "value",
    ]  # fmt: skip
    assert np.isfinite(results["value"]).all()
