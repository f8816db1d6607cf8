"""The study of monthly sales, on made-up products."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import sales_future_months as study
from mtlbook.data.multi_task_data import Holdout
from mtlbook.data.scaling import RawTable
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SMALL = Holdout(train=40, validation=20, test=20)
SEEDS = [0, 1]


def products() -> RawTable:
    """Five features with gaps, and sales of twelve months that grow with the first."""
    features = torch.randn(80, 5, generator=generator(0, "products"), dtype=torch.float64)
    noise = torch.randn(80, 12, generator=generator(0, "sales"), dtype=torch.float64)
    sales = torch.exp(6 + features[:, :1] + 0.3 * noise)
    targets = {f"Outcome_M{n}": column[:, None] for n, column in enumerate(sales.T, start=1)}
    features[::7, 2] = torch.nan
    every = torch.ones(80, dtype=torch.bool)
    tasks = tuple(map(Task.regression, targets))
    return RawTable(tasks, features, targets, dict.fromkeys(targets, every))


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(study.mulan, "load", lambda name: products())
    monkeypatch.setattr(study, "SPLIT", SMALL)


def test_the_month_asked_is_apart_and_in_units_of_training_rows():
    data, months = study.products(products(), 12, 1), study.by_month(products(), 1)
    # Up to units: the rows of a split hang on the names of the tasks.
    pairs = torch.cat([data.targets["main"], months.targets["month_12"]], dim=1)
    assert float(torch.corrcoef(pairs.T)[0, 1]) == pytest.approx(1)
    others = torch.cat([months.targets[f"month_{n}"] for n in range(1, 12)], dim=1)
    both = torch.stack([data.targets["others"].T, others.T], dim=1)
    assert all(float(torch.corrcoef(pair)[0, 1]) == pytest.approx(1) for pair in both)
    train = SMALL.draw(data, 1).train
    for values in (data.inputs, data.targets["main"]):
        assert bool((values[train].mean(0).abs() < 1e-9).all())
    gaps = torch.isnan(products().inputs[:, 2])
    assert bool((data.inputs[gaps, 2].abs() < 1e-9).all())  # the training rows' mean


def test_the_whole_study_at_a_tiny_size():
    results = study.run(SEEDS, "cpu", steps=2)
    assert results.columns.tolist() == ["seed", "month", "method", "metric", "value"]
    methods = results.groupby("month").method.unique().map(set).to_dict()
    assert methods == {
        1: {"alone", "beside", "fed", "shuffled"},
        12: {"alone", "beside", "least squares, ridge", "LuPTS, ridge"},
    }
    assert len(results) == 8 * len(SEEDS)
    assert np.isfinite(results.value).all()
