"""Auxiliary tasks: leaks, constants and missing labels are refused; the shuffled control."""

import pytest
import torch

from mtlbook.auxiliary.auxiliary_task import add_auxiliary, check_auxiliaries, shuffled
from mtlbook.data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

ROWS = 40
X = standard_normal(generator(1, "inputs"), ROWS, 3)
ILL = Task.binary("ill")


def with_task(task, values, labelled=None):
    main = MultiTaskData.multi_label([ILL], X, {"ill": torch.arange(ROWS) % 2})
    return add_auxiliary(main, task, values, labelled)


@pytest.mark.parametrize(
    "leak", [X[:, 1], 5 - 2e6 * X[:, 1], torch.stack([X[:, 0] ** 2, X[:, 1]], 1)]
)
def test_an_auxiliary_that_is_an_input_is_refused_with_its_column(leak):
    task = Task.regression("days", 1 if leak.ndim == 1 else 2)
    with pytest.raises(UsageError, match=r"'days' is among the inputs: .* equals input '1'"):
        with_task(task, leak)


def test_columns_are_called_by_the_names_that_the_user_gives():
    data = MultiTaskData.multi_label(
        [ILL, Task.binary("fever")],
        {"labs": (X > 0).double(), "tokens": torch.ones(ROWS, 2, dtype=torch.int64)},
        {"ill": torch.arange(ROWS) % 2, "fever": (X[:, 2] > 0).double()},
    )
    with pytest.raises(UsageError, match="its target equals input 'temperature'"):
        check_auxiliaries(data, "ill", columns=["age", "weight", "temperature"])
    with pytest.raises(UsageError, match="its target equals input 'labs 2'"):
        check_auxiliaries(data, "ill")
    with pytest.raises(UsageError, match="2 names for 3 input columns"):
        check_auxiliaries(data, "ill", columns=["age", "weight"])
    with pytest.raises(UsageError, match="main task 'cold' is not one"):
        check_auxiliaries(data, "cold")


def test_only_the_rows_with_a_label_are_compared():
    marks = torch.arange(ROWS) < 10
    partly = torch.where(marks, X[:, 1], 7.0)
    with pytest.raises(UsageError, match="equals input '1'"):
        with_task(Task.regression("days"), partly, marks)
    assert with_task(Task.regression("days"), partly).tasks[1].name == "days"


def test_what_is_nearly_an_input_is_let_through():
    noisy = X[:, 1] + 1e-4 * standard_normal(generator(1, "noise"), ROWS)
    check_auxiliaries(with_task(Task.regression("days"), noisy), "ill")


@pytest.mark.parametrize(
    ("task", "values"),
    [
        (Task.regression("days"), torch.full((ROWS,), 3.0)),
        (Task.classification("days", 4), torch.full((ROWS,), 3)),
        (Task.tagging("days", 4), torch.tensor([[3, -100]]).expand(ROWS, 2)),
    ],
)
def test_a_constant_auxiliary_is_refused(task, values):
    with pytest.raises(UsageError, match="All labels of the auxiliary task 'days' are 3"):
        with_task(task, values)


def test_an_auxiliary_without_labels_is_refused():
    with pytest.raises(UsageError, match="'days' has no labelled row"):
        with_task(Task.regression("days"), X[:, 1] ** 2, torch.zeros(ROWS, dtype=torch.bool))


def test_shuffling_keeps_the_labels_and_their_tie_to_the_main_one_alone():
    days = torch.arange(ROWS).double()
    marks = torch.arange(ROWS) < 30
    data = with_task(Task.regression("days"), days, marks)
    for within in (None, "ill"):
        control = shuffled(data, "days", 3, within=within)
        new, old = control.targets["days"][:, 0], data.targets["days"][:, 0]
        assert torch.equal(new.sort().values, old.sort().values)
        assert torch.equal(new[~marks], old[~marks])
        assert (new != old).sum() > 20
        same_class = bool((new[marks] % 2 == old[marks] % 2).all())
        assert same_class == (within == "ill")
        assert torch.equal(control.targets["ill"], data.targets["ill"])
    again = shuffled(data, "days", 3, within="ill")
    assert torch.equal(
        again.targets["days"], shuffled(data, "days", 3, within="ill").targets["days"]
    )
    assert not torch.equal(
        again.targets["days"], shuffled(data, "days", 4, within="ill").targets["days"]
    )


def test_impossible_shuffles_are_refused():
    data = with_task(Task.regression("days"), X[:, 1] ** 2)
    with pytest.raises(UsageError, match=r"no task \['weeks'\]"):
        shuffled(data, "weeks", 0)
    with pytest.raises(UsageError, match="'days' has none"):
        shuffled(data, "ill", 0, within="days")
