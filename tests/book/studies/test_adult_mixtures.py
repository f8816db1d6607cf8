"""The study of the adult census, on made-up people."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import adult_mixtures as study
from mtlbook.data import MultiTaskData
from mtlbook.data.multi_task_data import Holdout
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SMALL = Holdout(train=40, validation=20, test=20)
SEEDS = [0, 1]


def people() -> MultiTaskData:
    """Two binary questions about four numbers in units of their own, and a kind of three."""
    numbers = torch.randn(90, 4, generator=generator(0, "people"), dtype=torch.float64)
    kinds = torch.eye(3, dtype=torch.float64).repeat(30, 1)
    tasks = [
        Task.binary(name, metric="area under the curve") for name in ("income", "never_married")
    ]
    targets = {
        "income": (numbers[:, :1] + kinds[:, :1] > 0.3).double(),
        "never_married": (numbers[:, 1:2] < 0).double(),
    }
    inputs = torch.cat([40 + 10 * numbers, kinds], dim=1)
    return MultiTaskData.multi_label(tasks, inputs, targets)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(study.adult, "load", people)
    monkeypatch.setattr(study, "SPLIT", SMALL)


def test_numbers_are_in_units_of_training_rows_and_kinds_stay():
    data = study.in_units_of_training_rows(people(), 1)
    train = SMALL.draw(data, 1).train
    assert bool((data.inputs[train, :4].mean(0).abs() < 1e-9).all())
    assert torch.equal(data.inputs[:, 4:], people().inputs[:, 4:])


def test_the_whole_study_at_a_tiny_size():
    results = study.run(SEEDS, "cpu", steps=3)
    assert results.columns.tolist() == ["seed", "method", "task", "metric", "value"]
    measured = results[results.task != "both"]
    methods = {*study.CONTESTANTS, "best split"}
    assert set(measured.method) == methods
    assert len(measured) == len(SEEDS) * len(methods) * 2 * len(study.METRICS)
    assert measured.value[measured.metric == "area under the curve"].between(0, 1).all()
    costs = results[results.task == "both"].pivot_table("value", "method", "metric")
    assert set(costs.index) == set(study.CONTESTANTS)
    budget = costs.parameters["MMoE"]
    assert (costs.parameters.drop("single-task") <= budget).all()
    assert np.isfinite(results.value).all()


def test_the_bias_arm_of_the_page_is_left_out():
    assert "MMoE with bias" not in study.CONTESTANTS
    assert {"single-task", "shared bottom", "OMoE", "MMoE", "CGC", "PLE"} == set(study.CONTESTANTS)
