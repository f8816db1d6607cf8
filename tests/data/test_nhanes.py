"""NHANES on people written here, and against the survey's published counts."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from mtlbook.data import nhanes

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
    data = nhanes.from_people(people, standardise_targets=False)
    assert [task.name for task in data.tasks] == [*nhanes.ITEMS.values(), "diagnosis"]
    assert data.targets["interest"].flatten().tolist() == [1, 2, 0]
    # The sums are 9, 10 and 0.
    assert data.targets["diagnosis"].flatten().tolist() == [0, 1, 0]


def test_inputs_are_standardised_and_tails_are_logarithms(people):
    data = nhanes.from_people(people)
    answered = people.iloc[:3]
    expected = answered["LBXGLU"].map(np.log)
    expected = (expected - expected.mean()) / expected.std(ddof=0)
    column = data.inputs[:, COLUMNS.index("LBXGLU")]
    np.testing.assert_allclose(column.numpy(), expected, rtol=1e-12)


def test_missing_measures_become_means_and_a_column_for_those_missing_together(people):
    people.loc[0, ["LBXGLU", "LBXIN"]] = np.nan
    people.loc[2, list(nhanes.BLOOD)] = np.nan
    inputs = nhanes.from_people(people).inputs
    # The mean is 0 after scaling.
    assert inputs[0, COLUMNS.index("LBXGLU")].abs() < 1e-12
    marks = inputs[:, len(COLUMNS) :]
    found = sorted(tuple((column > 0).tolist()) for column in marks.T)
    assert found == [(False, False, True), (True, False, False)]


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
    data = nhanes.load()
    assert len(data.inputs) == 5068
    assert int(data.targets["diagnosis"].sum()) == 459
    assert bool(torch.isfinite(data.inputs).all())
