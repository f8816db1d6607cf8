"""NHANES on people written here, and against the survey's published counts."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from mtlbook.book.data import nhanes
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.data.scaling import scaled

COLUMNS = [*nhanes.PERSON, *nhanes.BODY, *nhanes.BLOOD, *nhanes.SKEWED]


@pytest.fixture
def people() -> pd.DataFrame:
    """Five people: the fourth left an item out, the fifth refused one."""
    draws = np.random.default_rng(0)
    table = pd.DataFrame(draws.uniform(1, 9, (5, len(COLUMNS))), columns=COLUMNS)
    table[list(nhanes.ITEMS)] = 1.0
    table.loc[1, "DPQ010"] = 2.0
    table.loc[2, list(nhanes.ITEMS)] = 0.0
    table.loc[3, "DPQ090"] = np.nan
    table.loc[4, "DPQ020"] = 7.0
    return table


def test_those_who_answered_all_items_are_the_rows(people):
    data = nhanes.from_people(people)
    assert [task.name for task in data.tasks] == [*nhanes.ITEMS.values(), "diagnosis"]
    assert data.targets["interest"].flatten().tolist() == [1, 2, 0]
    # The sums are 9, 10 and 0.
    assert data.targets["diagnosis"].flatten().tolist() == [0, 1, 0]


def test_tails_are_logarithms(people):
    column = nhanes.from_people(people).inputs[:, COLUMNS.index("LBXGLU")]
    np.testing.assert_allclose(column.numpy(), np.log(people["LBXGLU"].iloc[:3]), rtol=1e-12)


def test_measures_that_are_missing_together_have_one_column_that_says_so(people):
    people.loc[0, ["LBXGLU", "LBXIN"]] = np.nan
    people.loc[2, list(nhanes.BLOOD)] = np.nan
    table = nhanes.from_people(people)
    assert bool(torch.isnan(table.inputs[0, COLUMNS.index("LBXGLU")]))
    assert int(torch.isnan(table.inputs).sum()) == 2 + len(nhanes.BLOOD)
    marks = table.inputs[:, len(COLUMNS) :]
    assert sorted(map(tuple, marks.T.tolist())) == [(0, 0, 1), (1, 0, 0)]
    # Only the second person has a known glucose of those two: theirs fills the gap.
    data = scaled(table, Consecutive(train=2, validation=0, test=1), 0, targets=False)
    assert data.inputs[0, COLUMNS.index("LBXGLU")] == 0


def test_a_zero_of_the_format_is_a_zero(tmp_path, monkeypatch):
    tables = {
        "a": pd.DataFrame({"SEQN": [1.0, 2.0], "age": [5.397605e-79, 3.0], "year": [1.0, 1.0]}),
        "b": pd.DataFrame({"SEQN": [2.0], "weight": [70.0], "year": [1.0]}),
    }
    monkeypatch.setattr(pd, "read_sas", lambda file, **_: tables[file.name])
    people = nhanes.read_people({tmp_path / "a": ["age"], tmp_path / "b": ["weight"]})
    assert list(people) == ["age", "weight"]
    assert people["age"].tolist() == [0.0, 3.0]
    assert people["weight"].isna().tolist() == [True, False]


def test_the_published_counts(downloaded: Callable[[str], None]):
    downloaded("nhanes_2017")
    data = nhanes.load().filled()
    assert len(data.inputs) == 5068
    assert int(data.targets["diagnosis"].sum()) == 459
    assert bool(torch.isfinite(data.inputs).all())
