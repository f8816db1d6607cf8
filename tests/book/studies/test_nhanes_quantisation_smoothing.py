"""The study of NHANES for section 7.5, on made-up people."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import nhanes_quantisation_smoothing as study
from mtlbook.data.multi_task_data import Holdout
from mtlbook.data.scaling import RawTable
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

SMALL = Holdout(train=60, validation=40, test=50)


def people(rows: int = 160) -> RawTable:
    """Nine answers from 0 to 3 that three of four measures explain; a diagnosis from their sum."""
    x = standard_normal(generator(0, "people"), rows, 4)
    mood = x[:, :1] + x[:, 1:2]
    items = {
        f"item_{n}": (mood + standard_normal(generator(0, "item", n), rows, 1)).round().clamp(0, 3)
        for n in range(9)
    }
    total = torch.stack(list(items.values())).sum(0)
    targets = items | {"diagnosis": (total >= 10).double()}
    tasks = (*map(Task.regression, items), Task.binary("diagnosis"))
    x = 100 + 10 * x
    x[::7, 3] = torch.nan
    every = torch.ones(rows, dtype=torch.bool)
    return RawTable(tasks, x, targets, dict.fromkeys(targets, every))


def test_the_label_is_the_threshold_of_the_sum_and_no_answer_stays():
    table = study.thresholds_of_the_sum(people())
    assert [task.name for task in table.tasks] == ["label", "degree", "second"]
    total = table.targets["degree"]
    assert torch.equal(table.targets["label"], (total >= 10).double())
    assert torch.equal(table.targets["second"], (total >= 5).double())
    assert table.inputs.shape[1] == 4


def test_inputs_and_sum_are_in_units_of_training_rows(monkeypatch):
    monkeypatch.setattr(study, "SPLIT", SMALL)
    table = study.thresholds_of_the_sum(people())
    data = study.of_seed(table, 1)
    train = SMALL.draw(data, 1).train
    assert bool((data.inputs[train].mean(0).abs() < 1e-9).all())
    assert float(data.targets["degree"].abs().max()) <= 3
    assert float(data.targets["degree"][train].quantile(0.5)) == pytest.approx(0, abs=1e-12)


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(study, "SPLIT", SMALL)
    monkeypatch.setattr(study, "STEPS", 10)
    monkeypatch.setattr(study.nhanes, "load", people)
    results = study.run([0, 1], "cpu")
    assert results.columns.tolist() == ["seed", "method", "metric", "value"]
    assert np.isfinite(results.value).all()
    losses = results[results.metric == "loss"]
    assert set(losses.method) == {
        "label alone",
        "with the quantity",
        "with a second cut",
        "quantity permuted within class",
        "constant",
    }
    assert set(results.groupby(["metric", "method"]).size()) == {2}
    assert set(results[results.metric == "calibrated loss"].method) == {
        "label alone",
        "with the quantity",
        "regression of the quantity",
    }
