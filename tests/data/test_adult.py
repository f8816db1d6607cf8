"""The adult census on two small files written here."""

import pandas as pd
import pytest
import torch

from mtlbook.data import adult
from mtlbook.errors import UsageError

FIRST = """\
39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, \
2174, 0, 40, United-States, <=50K
50, ?, 83311, HS-grad, 9, Married-civ-spouse, Exec-managerial, Husband, White, Male, \
0, 0, 13, United-States, >50K

"""
SECOND = """\
|1x3 Cross validator
25, Private, 226802, 11th, 7, Never-married, Sales, Own-child, Black, Female, 0, 1902, 40, Cuba, \
>50K.

"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The folder of both files, as they are published: a first line that is none, full stops."""
    (tmp_path / "adult.data").write_text(FIRST)
    (tmp_path / "adult.test").write_text(SECOND)
    monkeypatch.setattr(adult, "fetch", lambda name: tmp_path)
    return tmp_path


def test_all_people_of_both_files_with_their_labels(small):
    data = adult.load(*adult.TASKS)
    assert data.rows == 3
    labels = {name: target[:, 0].tolist() for name, target in data.targets.items()}
    assert labels == {"income": [0, 1, 1], "never_married": [1, 0, 1], "college": [1, 0, 0]}
    assert all(bool(marks.all()) for marks in data.labelled.values())
    assert {task.metric.name for task in data.tasks} == {"area under the curve"}


def test_the_paper_asks_for_income_and_marital_status(small):
    assert [task.name for task in adult.load().tasks] == ["income", "never_married"]


def test_numbers_come_first_and_long_tails_by_their_logarithm(small):
    inputs = adult.load().inputs
    assert inputs.dtype == torch.float64
    numbers = inputs[:, adult.MEASURED]
    assert numbers[:, :2].tolist() == [[39, 40], [50, 13], [25, 40]]
    expected = torch.tensor([[2175.0, 1.0], [1.0, 1.0], [1.0, 1903.0]], dtype=torch.float64).log()
    torch.testing.assert_close(numbers[:, 2:], expected)
    # Each person has one class of work, occupation, race, sex and country; "?" is a class.
    assert inputs[:, 4:].sum(1).tolist() == [5, 5, 5]
    assert inputs.shape[1] == 4 + 3 + 3 + 2 + 2 + 2


@pytest.mark.parametrize("column", [*adult.LEAKS, *adult.TARGETS, "fnlwgt"])
def test_no_input_depends_on_what_leaks_or_is_predicted(small, column):
    people = adult.read_people([small / "adult.data", small / "adult.test"])
    before = adult.from_people(people).inputs
    people[column] = people[column].iloc[::-1].to_numpy()
    assert torch.equal(adult.from_people(people).inputs, before)
    assert column not in (*adult.NUMBERS, *adult.SKEWED, *adult.KINDS)


def test_every_column_is_an_input_a_target_or_left_out():
    used = {*adult.NUMBERS, *adult.SKEWED, *adult.KINDS, *adult.TARGETS, *adult.LEAKS, "fnlwgt"}
    assert used == set(adult.COLUMNS)


def test_an_unknown_task_is_refused():
    with pytest.raises(UsageError, match=r"no task 'age'.*income, never_married, college"):
        adult.from_people(pd.DataFrame(), ["age"])
