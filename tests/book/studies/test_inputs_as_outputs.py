"""The study of Table 6 and jura, on a made-up soil."""

import numpy as np
import pytest
import torch

from mtlbook.book.data.worlds import caruana_table_6
from mtlbook.book.experiments import predicting_inputs as experiment
from mtlbook.book.studies import inputs_as_outputs as study
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.data.scaling import RawTable
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SEEDS = [0, 1]


def soil(name: str) -> RawTable:
    """15 inputs, of which the last four go with the target, and three targets."""
    assert name == "jura"
    inputs = 5 + 2 * torch.randn(60, 15, generator=generator(0, "soil"), dtype=torch.float64)
    metals = ["Cd", "Co", "Cu"]
    targets = dict.fromkeys(metals, 3 * inputs[:, 11:12] + inputs[:, :1])
    marks = dict.fromkeys(metals, torch.ones(60, dtype=torch.bool))
    return RawTable(tuple(map(Task.regression, metals)), inputs, targets, marks)


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(study.mulan, "load", soil)
    monkeypatch.setattr(study, "SPLIT", Consecutive(train=30, validation=15, test=15))
    results = study.run(SEEDS, "cpu", steps=3)
    assert results.columns.tolist() == ["seed", "data", "width", "role", "metric", "value"]
    counted = results.groupby(["data", "width"]).role.unique().map(sorted)
    assert counted["Table 6", 16] == counted["Table 6", 128] == ["input", "nothing", "output"]
    assert counted["jura", 16] == ["input", "missing", "nothing", "output"]
    assert len(results) == len(SEEDS) * 10
    assert np.isfinite(results.value).all()


def test_cadmium_is_the_only_task_and_in_units_of_training_rows(monkeypatch):
    monkeypatch.setattr(study.mulan, "load", soil)
    monkeypatch.setattr(study, "SPLIT", Consecutive(train=30, validation=15, test=15))
    world = study.jura(steps=3)
    data = world.data(1)
    assert [task.name for task in data.tasks] == ["Cd"]
    known = study.SPLIT.draw(data, 1).train
    assert bool((data.inputs[known].mean(0).abs() < 1e-9).all())
    asked = world.of("output")(1)
    assert torch.equal(study.SPLIT.draw(asked, 1).train, known)
    assert torch.equal(asked.targets["Cr"], data.inputs[:, 11:12])
    assert [task.name for task in asked.tasks] == ["Cd", "Cr", "Ni", "Pb", "Zn"]


def test_seeds_with_gaps_are_refused():
    with pytest.raises(UsageError, match="follow one another"):
        study.run([3, 5], "cpu", steps=3)


def test_table_6_is_trained_as_the_protocol_says():
    world = experiment.table_6(width=128, steps=600)
    assert study.WIDTHS == (16, 128)
    assert len(world.trials(world.rates)) == len(world.weights) * len(world.trials([0.01])) == 6
    assert caruana_table_6.BITS == 10
