"""The three settings as one shape, splits that are nested, and every error that data can cause."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import config
from torch import Tensor

from mtlbook.data import Consecutive, Holdout, MultiTaskData, Split
from mtlbook.errors import UsageError
from mtlbook.tasks import IGNORED, Task

A, B = Task.regression("a"), Task.binary("b")
DIGIT = Task.classification("digit", classes=3)


def inputs(rows: int, width: int = 2) -> Tensor:
    return torch.arange(rows * width, dtype=torch.float64).view(rows, width)


def labels(rows: int) -> Tensor:
    """Zeros and ones in turn."""
    return torch.arange(rows).remainder(2).double()


def multi_label(rows: int) -> MultiTaskData:
    return MultiTaskData.multi_label(
        [A, B], inputs(rows), {"a": inputs(rows)[:, 0], "b": labels(rows)}
    )


def several(first: int, second: int, codes: bool = False) -> MultiTaskData:
    return MultiTaskData.several(
        {A: (inputs(first), inputs(first)[:, 1]), B: (-inputs(second), labels(second))}, codes
    )


def partial(rows: int, a: list[int], b: list[int]) -> MultiTaskData:
    """Rows of which some carry the one label, some the other, some both."""
    marks = {"a": torch.zeros(rows, dtype=torch.bool), "b": torch.zeros(rows, dtype=torch.bool)}
    marks["a"][a], marks["b"][b] = True, True
    targets = {"a": inputs(rows)[:, 0], "b": labels(rows)}
    return MultiTaskData.partial([A, B], inputs(rows), targets, marks)


# The three settings


def test_multi_label_rows_carry_every_label():
    data = multi_label(4)
    assert data.targets["a"].tolist() == [[0], [2], [4], [6]]
    assert data.targets["b"].tolist() == [[0], [1], [0], [1]]
    assert all(bool(marks.all()) for marks in data.labelled.values())
    assert {names: rows.tolist() for names, rows in data.groups().items()} == {
        ("a", "b"): [0, 1, 2, 3]
    }


def test_several_data_sets_are_one_behind_the_other():
    data = several(2, 3)
    assert torch.equal(data.inputs, torch.cat([inputs(2), -inputs(3)]))
    assert data.targets["a"].tolist() == [[1], [3], [0], [0], [0]]
    assert data.targets["b"].tolist() == [[0], [0], [0], [1], [0]]
    assert data.labelled["a"].tolist() == [True, True, False, False, False]
    assert data.labelled["b"].tolist() == [False, False, True, True, True]
    groups = {names: rows.tolist() for names, rows in data.groups().items()}
    assert groups == {("a",): [0, 1], ("b",): [2, 3, 4]}


def test_codes_are_appended_to_the_inputs():
    data = several(2, 3, codes=True)
    assert torch.equal(data.inputs[:, :2], several(2, 3).inputs)
    assert data.inputs[:, 2:].tolist() == [[1, 0]] * 2 + [[0, 1]] * 3


def test_targets_of_unlike_shape_stand_side_by_side():
    rows = torch.tensor([0, 2, 1])
    data = MultiTaskData.several({DIGIT: (inputs(3), rows), A: (inputs(2), inputs(2)[:, 0])})
    assert data.targets["digit"].tolist() == [0, 2, 1, 0, 0]
    assert data.targets["a"].shape == (5, 1)


def test_rows_without_a_label_hold_zeros_whatever_they_held():
    nan = float("nan")
    marks = torch.tensor([True, False, True])
    data = MultiTaskData.partial(
        [A, DIGIT],
        inputs(3),
        {"a": torch.tensor([1.0, nan, 3.0]), "digit": torch.tensor([1, -7, 2])},
        {"a": marks, "digit": marks},
    )
    assert data.targets["a"].tolist() == [[1], [0], [3]]
    assert data.targets["digit"].tolist() == [1, 0, 2]


def test_groups_of_partial_labels():
    groups = partial(6, a=[0, 1, 2, 3], b=[2, 3, 4]).groups()
    assert {names: rows.tolist() for names, rows in groups.items()} == {
        ("a",): [0, 1],
        ("a", "b"): [2, 3],
        ("b",): [4],
        (): [5],
    }


def test_images_are_inputs_too():
    data = MultiTaskData.multi_label([DIGIT], torch.zeros(3, 8, 8), {"digit": torch.arange(3)})
    assert data.inputs.shape == (3, 8, 8)


def test_the_caller_s_dictionaries_stay_as_they_are():
    targets = {"a": torch.tensor([1.0, float("nan")]), "other": torch.zeros(2)}
    marks = {"a": torch.tensor([True, False])}
    own = {"x": inputs(2)}
    data = MultiTaskData((A,), own, targets, marks)
    data.targets["a"] += 1
    del data.labelled["a"]
    assert list(targets) == ["a", "other"]
    assert targets["a"].shape == (2,)
    assert targets["a"][0] == 1
    assert list(marks) == ["a"]
    assert data.inputs is not own


# Several inputs by name


TAG = Task.tagging("tag", labels=3)


def sentences(rows: int = 6, length: int = 4) -> MultiTaskData:
    """Padded tokens, their mask, and their labels: the row n has 1 + n modulo `length` tokens."""
    mask = torch.arange(length) <= torch.arange(rows)[:, None] % length
    tokens = torch.arange(1, rows * length + 1).view(rows, length) * mask
    tags = torch.where(mask, tokens % 3, IGNORED)
    tokenised = {"tokens": tokens, "mask": mask}
    targets = {"tag": tags, "a": mask.sum(1).double()}
    return MultiTaskData.multi_label([TAG, A], tokenised, targets)


def test_inputs_may_have_several_parts():
    data = sentences()
    assert data.rows == 6
    assert data.inputs["tokens"][1].tolist() == [5, 6, 0, 0]
    assert data.targets["tag"][1].tolist() == [2, 0, IGNORED, IGNORED]
    split = Holdout(train=3, validation=1, test=2).draw(data, 0)
    chosen = data.subset(split.train)
    assert torch.equal(chosen.inputs["tokens"], data.inputs["tokens"][split.train])
    assert torch.equal(chosen.inputs["mask"], data.inputs["mask"][split.train])


def test_padding_does_not_count_from_data_to_loss():
    data = sentences()
    embed = torch.nn.Embedding(25, 3, dtype=torch.float64)
    prediction = embed(data.inputs["tokens"]).mT
    loss = TAG.loss(prediction, data.targets["tag"])
    for row in range(data.rows):
        tokens = data.inputs["tokens"][row][data.inputs["mask"][row]]
        labels = data.targets["tag"][row][data.inputs["mask"][row]]
        expected = torch.nn.functional.cross_entropy(embed(tokens), labels)
        torch.testing.assert_close(loss[row], expected)


def test_data_sets_of_several_parts_are_one_behind_the_other():
    first, second = sentences(3), sentences(5)
    data = MultiTaskData.several(
        {TAG: (first.inputs, first.targets["tag"]), A: (second.inputs, second.targets["a"])}
    )
    assert data.rows == 8
    for name in ("tokens", "mask"):
        assert torch.equal(data.inputs[name], torch.cat([first.inputs[name], second.inputs[name]]))


# Some of the rows


@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_subset_is_data_of_these_rows(order: list[int], size: int):
    data, rows = partial(6, a=[0, 1, 2, 3], b=[2, 3, 4]), torch.tensor(order[:size])
    part = data.subset(rows)
    assert part.rows == size
    assert part.tasks == data.tasks
    assert torch.equal(part.inputs, data.inputs[rows])
    for name in ("a", "b"):
        assert torch.equal(part.targets[name], data.targets[name][rows])
        assert torch.equal(part.labelled[name], data.labelled[name][rows])


def test_a_task_without_a_label_in_the_subset_stays():
    part = partial(6, a=[0, 1, 2, 3], b=[4]).subset(torch.tensor([0, 1]))
    assert [task.name for task in part.tasks] == ["a", "b"]
    assert not part.labelled["b"].any()
    assert part.targets["b"].tolist() == [[0], [0]]


def test_a_subset_does_not_show_the_labels_that_a_split_takes_away():
    data = multi_label(20)
    split = Holdout(train=10, labels={"a": 3}).draw(data, 0)
    part = data.subset(split.train, split.labelled)
    assert int(part.labelled["a"].sum()) == 3
    assert bool((part.targets["a"][~part.labelled["a"]] == 0).all())
    known = split.train[part.labelled["a"]]
    assert torch.equal(part.targets["a"][part.labelled["a"]], data.targets["a"][known])
    assert bool(data.targets["a"][split.train].count_nonzero() >= 9)


def test_a_subset_is_not_checked_again(monkeypatch):
    data = multi_label(6)
    monkeypatch.setattr(MultiTaskData, "__post_init__", lambda self: pytest.fail("checked"))
    assert data.subset(torch.tensor([5, 0])).inputs[:, 0].tolist() == [10, 0]


# Errors of data


def nan_inputs(value: float) -> MultiTaskData:
    x = inputs(4)
    x[1, 0], x[3, 1] = value, value
    return MultiTaskData.multi_label([A], x, {"a": inputs(4)[:, 0]})


def never_labelled() -> MultiTaskData:
    return partial(4, a=[0, 1], b=[])


def some_nan_targets() -> MultiTaskData:
    target = torch.tensor([1.0, float("nan"), 2.0])
    return MultiTaskData.multi_label([A], inputs(3), {"a": target})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nan_inputs(float("nan")), r"2 of 4 input rows hold NaN .*impute or drop them"),
        (lambda: nan_inputs(float("inf")), r"2 of 4 input rows hold NaN or infinite"),
        (never_labelled, r"Task 'b' has no labelled row: leave the task out or add labels"),
        (some_nan_targets, r"1 labelled targets of task 'a' are not finite .*mark their rows"),
        (
            lambda: MultiTaskData.multi_label([A], inputs(3), {"a": inputs(3)}),
            r"task 'a' \(regression, 1 outputs\) have the shape \(3, 2\)",
        ),
        (
            lambda: MultiTaskData.multi_label([DIGIT], inputs(3), {"digit": inputs(3)[:, 0]}),
            r"'digit' .*must be class numbers",
        ),
        (
            lambda: MultiTaskData.multi_label([DIGIT], inputs(2), {"digit": torch.tensor([0, 3])}),
            r"1 labelled targets of task 'digit' are not whole numbers from 0 to 2",
        ),
        (
            lambda: MultiTaskData.multi_label([A, B], inputs(3), {"a": inputs(3)[:, 0]}),
            r"'b' has no targets: there are targets for \['a'\]",
        ),
        (
            lambda: MultiTaskData.multi_label([A, A], inputs(3), {"a": inputs(3)[:, 0]}),
            r"same name among \['a', 'a'\]: rename",
        ),
        (
            lambda: MultiTaskData.partial([A], inputs(3), {"a": inputs(3)[:, 0]}, {}),
            r"No marks of labelled rows for \['a'\]",
        ),
        (
            lambda: MultiTaskData.several(
                {A: (inputs(2), inputs(2)[:, 0]), B: (inputs(2, width=3), labels(2))}
            ),
            r"inputs differ in shape, \{'a': \(2,\), 'b': \(3,\)\}",
        ),
        (
            lambda: MultiTaskData.several({A: (inputs(3), inputs(2)[:, 0])}),
            r"'a' has 3 input rows and 2 targets",
        ),
        (
            lambda: MultiTaskData.several({DIGIT: (torch.zeros(2, 8, 8), torch.arange(2))}, True),
            r"flat inputs, not to inputs of 2 axes an example: flatten",
        ),
        (
            lambda: MultiTaskData.multi_label(
                [A], {"tokens": torch.zeros(3, 2), "mask": torch.ones(2, 2)}, {"a": torch.ones(3)}
            ),
            r"inputs of 'mask' have 2 rows where those of 'tokens' have 3: the rows of all must",
        ),
        (
            lambda: MultiTaskData.multi_label(
                [A], {"x": inputs(2), "y": inputs(2) / 0}, {"a": torch.ones(2)}
            ),
            r"2 of 2 input rows of 'y' hold NaN or infinite values",
        ),
        (
            lambda: MultiTaskData.several(
                {A: ({"x": inputs(2)}, torch.ones(2)), B: (inputs(2), labels(2))}
            ),
            r"inputs differ in shape, \{'a': \{'x': \(2,\)\}, 'b': \(2,\)\}",
        ),
        (
            lambda: MultiTaskData.several({A: ({"x": inputs(2)}, torch.ones(2))}, codes=True),
            r"one flat tensor, not to \['x'\]: add them to the dictionary",
        ),
    ],
)
def test_impossible_data_is_refused_with_cause_and_remedy(make: Callable, message: str):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As in a user's run, where shapes are not checked at every call as they are in tests."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_targets_and_marks_must_have_a_row_for_each_input():
    message = r"Task 'a' has 2 targets and 3 marks of labelled rows for 3 input rows"
    with pytest.raises(UsageError, match=message):
        MultiTaskData.multi_label([A], inputs(3), {"a": inputs(2)[:, 0]})
    with pytest.raises(UsageError, match=r"3 targets and 2 marks .*the three must agree"):
        MultiTaskData.partial(
            [A], inputs(3), {"a": inputs(3)[:, 0]}, {"a": torch.ones(2, dtype=torch.bool)}
        )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("own", "target", "marks", "message"),
    [
        ([[1.0], ["x"]], torch.ones(2), None, r"inputs are \[.*give a tensor, or a dictionary"),
        ({}, torch.ones(2), None, r"inputs are \{\}: .*a dictionary of at least one tensor"),
        ({"x": [1.0, "y"]}, torch.ones(2), None, r"inputs of 'x' are a list: give a tensor"),
        (inputs(2), ["1", 2], None, r"targets of task 'a' are a list: give a tensor"),
        (inputs(2), None, None, r"targets of task 'a' are a NoneType: give a tensor"),
        (inputs(2), torch.ones(2), torch.ones(2), r"for task 'a' are torch.float32: .*torch.bool"),
        (inputs(2), torch.ones(2), [True, True], r"labelled for task 'a' are list: .*torch.bool"),
    ],
)
def test_what_is_no_tensor_is_refused(own, target, marks, message):
    marks = torch.ones(2, dtype=torch.bool) if marks is None else marks
    with pytest.raises(UsageError, match=message):
        MultiTaskData.partial([A], own, {"a": target}, {"a": marks})


# Splits


def parts(split: Split) -> list[list[int]]:
    return [part.tolist() for part in (split.train, split.validation, split.test)]


@given(
    first=st.integers(12, 60),
    second=st.integers(12, 60),
    train=st.floats(0.3, 0.6),
    seed=st.integers(0, 2**31),
)
def test_parts_are_disjoint_and_have_each_data_set_s_share(first, second, train, seed):
    # No binary task: one class alone in a small training part would be an error.
    data = MultiTaskData.several(
        {
            A: (inputs(first), inputs(first)[:, 0]),
            A.renamed("c"): (inputs(second), inputs(second)[:, 1]),
        }
    )
    split = Holdout(train=train, validation=0.2, test=0.2).draw(data, seed)
    rows = [row for part in parts(split) for row in part]
    assert len(rows) == len(set(rows))
    assert set(rows) <= set(range(first + second))
    for part, share in zip(parts(split), (train, 0.2, 0.2), strict=True):
        for start, size in ((0, first), (first, second)):
            inside = sum(start <= row < start + size for row in part)
            assert abs(inside - share * size) < 1


@given(
    small=st.integers(6, 30),
    more=st.integers(0, 30),
    test=st.integers(1, 10),
    seed=st.integers(0, 2**31),
)
def test_a_larger_training_part_contains_the_smaller_one(small, more, test, seed):
    data = MultiTaskData.several(
        {A: (inputs(80), inputs(80)[:, 0]), A.renamed("c"): (inputs(80), inputs(80)[:, 1])}
    )
    one = Holdout(train=small, validation=5, test=test).draw(data, seed)
    two = Holdout(train=small + more, validation=5, test=test).draw(data, seed)
    assert parts(one)[1:] == parts(two)[1:]
    assert set(parts(one)[0]) <= set(parts(two)[0])
    assert (len(one.train), len(two.train)) == (2 * small, 2 * (small + more))


def test_shares_that_sum_to_one_use_every_row():
    # In binary 0.29 × 100 and 0.57 × 100 fall just short of 29 and 57.
    split = Holdout(train=0.29, validation=0.57, test=0.14).draw(multi_label(100), 0)
    assert sorted(row for part in parts(split) for row in part) == list(range(100))
    assert [len(part) for part in parts(split)] == [29, 57, 14]


def test_counts_are_of_each_data_set():
    split = Holdout(train=5, validation=2, test=3).draw(several(10, 20), 0)
    assert [len(part) for part in parts(split)] == [10, 4, 6]
    assert sum(row < 10 for row in parts(split)[0]) == 5


def test_data_sets_of_one_size_are_shuffled_independently():
    test = parts(Holdout().draw(several(40, 40), 0))[2]
    assert sorted(row for row in test if row < 40) != sorted(row - 40 for row in test if row >= 40)


def test_splits_repeat_and_differ_between_seeds():
    data = multi_label(40)
    assert parts(Holdout().draw(data, 3)) == parts(Holdout().draw(data, 3))
    assert parts(Holdout().draw(data, 3)) != parts(Holdout().draw(data, 4))


def test_every_row_is_as_likely_in_the_test_part():
    data = multi_label(10)
    counts = torch.zeros(10)
    for seed in range(500):
        counts[Holdout().draw(data, seed).test] += 1
    # 500 draws of 2 of 10: 100 each, with a standard deviation of 9.
    assert float((counts - 100).abs().max()) < 36


@given(few=st.integers(3, 10), more=st.integers(0, 10), seed=st.integers(0, 2**31))
def test_fewer_labels_are_the_first_of_more(few, more, seed):
    data = multi_label(60)

    def training_labels(count: int) -> set[int]:
        split = Holdout(train=36, labels={"a": count}).draw(data, seed)
        assert len(split.train) == 36
        assert bool(split.labelled["b"].all())
        outside = torch.cat([split.validation, split.test])
        assert bool(split.labelled["a"][outside].all())
        return set(split.train[split.labelled["a"][split.train]].tolist())

    assert len(training_labels(few)) == few
    assert training_labels(few) <= training_labels(few + more)
    # The data itself is as it was.
    assert bool(data.labelled["a"].all())


def test_training_rows_left_without_any_label_are_dropped():
    split = Holdout(train=10, validation=5, test=5, labels={"a": 4}).draw(several(30, 30), 0)
    assert sum(row < 30 for row in parts(split)[0]) == 4
    assert sum(row >= 30 for row in parts(split)[0]) == 10
    assert len(split.test) == 10


def test_training_rows_without_a_label_are_kept_by_themselves():
    # Ten rows have both labels, twenty only that of a, ten none.
    data = partial(40, a=list(range(30)), b=list(range(10)))
    split = Holdout(train=0.6, validation=0.2, test=0.2, labels={"a": 7}).draw(data, 0)
    training = set(parts(Holdout(train=0.6).draw(data, 0))[0])
    assert len(training) == 6 + 12
    unlabelled = split.unlabelled.tolist()
    # Six of those that never had a label; of those of a alone, what the seven do not take.
    assert sum(row >= 30 for row in unlabelled) == 6
    assert {row for row in unlabelled if row < 30} == training - set(split.train.tolist())
    assert {row for row in split.train.tolist() if row < 10} == {n for n in training if n < 10}
    outside = {*unlabelled, *split.train.tolist()} & {*parts(split)[1], *parts(split)[2]}
    assert outside == set()


def test_a_fully_labelled_split_has_no_unlabelled_rows():
    assert Holdout().draw(multi_label(20), 0).unlabelled.tolist() == []


def test_a_part_may_be_left_out():
    split = Holdout(train=0.5, validation=0, test=0.5).draw(multi_label(10), 0)
    assert [len(part) for part in parts(split)] == [5, 0, 5]


# Errors of splits


def one_class(task: Task, target: Tensor) -> MultiTaskData:
    return MultiTaskData.multi_label([task], inputs(len(target)), {task.name: target})


@pytest.mark.parametrize(
    ("data", "holdout", "message"),
    [
        (
            several(10, 4),
            Holdout(train=6, validation=2, test=2),
            r"asks for 2 test, 2 validation and 6 training rows where there are 4: ask for fewer",
        ),
        (
            multi_label(10),
            Holdout(train=0.6, validation=0.3, test=0.2),
            r"where there are 10: ask for fewer",
        ),
        (
            multi_label(10),
            Holdout(labels={"c": 3, "a": 2}),
            r"limits the labels of \['c'\], .*its tasks are \['a', 'b'\]",
        ),
        (
            multi_label(10),
            Holdout(labels={"a": 7}),
            r"keeps 7 training labels of task 'a', which has only 6: keep fewer",
        ),
        (
            multi_label(10),
            Holdout(train=0),
            r"training part is empty",
        ),
        (
            several(100, 4),
            Holdout(train=0.6, validation=0.2, test=0.2),
            r"Task 'b' has no labelled row in the validation part of seed 0: make the part larger",
        ),
        (
            multi_label(10),
            Holdout(labels={"a": 0}),
            r"Task 'a' has no labelled row in the train part of seed 0",
        ),
        (
            one_class(DIGIT, torch.ones(20, dtype=torch.long)),
            Holdout(),
            r"All 12 training labels of task 'digit' are of one class for seed 0",
        ),
        (
            one_class(B, torch.zeros(20, dtype=torch.float64)),
            Holdout(),
            r"All 12 training labels of task 'b' are of one class .*merge rare classes",
        ),
    ],
)
def test_impossible_splits_are_refused_with_cause_and_remedy(
    data: MultiTaskData, holdout: Holdout, message: str
):
    with pytest.raises(UsageError, match=message):
        holdout.draw(data, 0)


def in_order(rows: int) -> MultiTaskData:
    values = torch.arange(rows, dtype=torch.float64)[:, None]
    return MultiTaskData.multi_label([Task.regression("value")], values, {"value": values[:, 0]})


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
def test_consecutive_parts_cover_all_rows_in_order(train, validation, test, seed):
    drawn = Consecutive(train, validation, test).draw(in_order(train + validation + test), seed)
    assert [len(drawn.train), len(drawn.validation), len(drawn.test)] == [train, validation, test]
    rows = torch.cat([drawn.train, drawn.validation, drawn.test])
    assert torch.equal(rows, torch.arange(train + validation + test))


def test_consecutive_parts_keep_the_first_labels_too():
    drawn = Consecutive(train=6, validation=2, test=2, labels={"value": 3}).draw(in_order(10), 0)
    assert drawn.train.tolist() == [0, 1, 2]


def test_a_consecutive_split_of_other_data_is_refused():
    with pytest.raises(UsageError, match="has 10 rows and the consecutive split 60"):
        Consecutive(train=20, validation=20, test=20).draw(in_order(10), 0)


def test_a_single_value_of_a_regression_is_no_error():
    split = Holdout().draw(one_class(A, torch.ones(20, dtype=torch.float64)), 0)
    assert len(split.train) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 1.5}, "train part is 1.5: give a whole number"),
        ({"test": -1}, "test part is -1"),
        ({"validation": -0.1}, "validation part is -0.1"),
        ({"labels": {"level": -3}}, "keeps -3 labels of task 'level'"),
    ],
)
def test_impossible_parts_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Holdout(**options)


def test_data_without_tasks_is_refused():
    with pytest.raises(UsageError, match="without any task"):
        MultiTaskData.multi_label([], torch.zeros(3, 2), {})
    with pytest.raises(UsageError, match="without any data set"):
        MultiTaskData.several({})
