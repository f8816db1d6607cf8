"""The contest of section 4.5: equal trials, equal sizes, and a control that shares nothing."""

import numpy as np
import pytest

from mtlbook.book.experiments import regularisers
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf
from mtlbook.data import constructed


def test_every_regulariser_has_as_many_trials_and_names_tell_them_apart():
    grids = regularisers.trials((6, 16), (0.1, 0.3))
    assert {len(grid) for name, grid in grids.items() if name != regularisers.BEST} == {4}
    assert len(grids[regularisers.BEST]) == 12


@pytest.fixture
def contestants(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(regularisers, "TEST", 60)
    notebook = {"seeds": 2, "first_seed": 0, "device": "cpu", "dataset": "constructed"}
    built = []
    network = regularisers.network

    def watched(data, seed, width, branch_at, dropout=0.0):
        made = network(data, seed, width, branch_at, dropout)
        built.append((branch_at, width, sum(each.numel() for each in made.parameters())))
        return made

    monkeypatch.setattr(regularisers, "network", watched)
    found = regularisers.contest(
        Page("4.5", notebook, dataset=OneOf("constructed")),
        lambda seed: constructed.related_tasks(seed, tasks=3, rows=100, same_inputs=True).data,
        penalties=(0.1, 0.3),
        examples=20,
        control=True,
    )
    return found, set(built)


def test_contestants_are_of_one_size_and_report_a_loss_for_each_seed(contestants):
    found, built = contestants
    assert set(found) == {"single-task", "hard sharing", "single-task, chosen jointly"}
    assert set(found["hard sharing"]) - set(found["single-task"]) == {regularisers.ALONE}
    assert all(loss.shape == (2,) for grids in found.values() for loss in grids.values())
    separate = sorted({size for branch_at, _, size in built if branch_at == 0})
    shared = sorted({size for branch_at, *_, size in built if branch_at is None}, reverse=True)
    # Of the shared layers the two of equal size are the widest: nearest whole widths.
    for one, other in zip(separate[::-1], shared[:2], strict=True):
        assert one == pytest.approx(other, rel=0.05)


def test_reductions_are_against_the_best_separate_networks():
    best, other = np.array([1.0, 3.0]), np.array([0.8, 2.4])
    losses = {"single-task": {regularisers.BEST: best}, "hard sharing": {"dropout": other}}
    table = regularisers.reductions({"tiny": losses})
    assert table[["data", "regulariser", "network"]].values.tolist() == [
        ["tiny", "dropout", "hard sharing"]
    ]
    assert table.estimate.item() == pytest.approx(20.0)
