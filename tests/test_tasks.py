"""Losses against PyTorch and closed forms, metrics against scikit-learn, and every error."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics
from torch import Tensor
from torch.nn import functional as F

from mtlbook.errors import UsageError
from mtlbook.tasks import IGNORED, Task

finite = st.floats(-20, 20)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(*shape: int, below: int, seed: int = 1) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


# Losses


@given(arrays(float, (4, 3), elements=finite), arrays(float, (4, 3), elements=finite))
def test_regression_loss_is_the_squared_error_of_each_example(prediction, target):
    loss = Task.regression("y", outputs=3).loss(
        torch.from_numpy(prediction), torch.from_numpy(target)
    )
    np.testing.assert_allclose(loss.numpy(), ((prediction - target) ** 2).mean(1), atol=1e-12)


@given(st.lists(finite, min_size=1, max_size=5), st.booleans())
def test_binary_loss_is_the_logistic_loss(logits: list[float], label: bool):
    prediction = torch.tensor(logits, dtype=torch.float64)[:, None]
    loss = Task.binary("b").loss(prediction, torch.full_like(prediction, float(label)))
    sign = 1 if label else -1
    expected = [math.log1p(math.exp(-sign * logit)) for logit in logits]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_several_binary_outputs_are_averaged():
    prediction, target = normal(5, 4), classes(5, 4, below=2).double()
    each = [
        Task.binary("b").loss(prediction[:, [column]], target[:, [column]]) for column in range(4)
    ]
    loss = Task.binary("b", outputs=4).loss(prediction, target)
    torch.testing.assert_close(loss, torch.stack(each).mean(0))


def test_classification_loss_is_the_cross_entropy_of_scikit_learn():
    prediction, target = normal(20, 5), classes(20, below=5)
    loss = Task.classification("c", classes=5).loss(prediction, target)
    assert loss.shape == (20,)
    expected = metrics.log_loss(target.numpy(), prediction.softmax(1).numpy(), labels=range(5))
    assert float(loss.mean()) == pytest.approx(expected)


@given(st.floats(-100, 100))
def test_classification_loss_does_not_see_a_shift_of_all_scores(shift: float):
    task, prediction, target = (
        Task.classification("c", classes=3),
        normal(4, 3),
        classes(4, below=3),
    )
    torch.testing.assert_close(
        task.loss(prediction + shift, target), task.loss(prediction, target), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("task", "positions"),
    [
        (Task.tagging("t", labels=4), (6,)),
        (Task.dense_classification("d", classes=4), (3, 2)),
    ],
)
def test_positions_are_averaged_and_ignored_ones_do_not_count(
    task: Task, positions: tuple[int, ...]
):
    prediction, target = normal(3, 4, *positions), classes(3, *positions, below=4)
    target[0].view(-1)[:2] = IGNORED
    target[2] = IGNORED
    loss = task.loss(prediction, target)
    for example in range(2):
        known = target[example] != IGNORED
        scores = prediction[example].movedim(0, -1)[known]
        torch.testing.assert_close(loss[example], F.cross_entropy(scores, target[example][known]))
    # An example of padding alone has no loss, not a NaN.
    assert float(loss[2]) == 0


def test_dense_regression_loss_is_averaged_over_outputs_and_pixels():
    prediction, target = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=2)
    loss = Task.dense_regression("n", outputs=3).loss(prediction, target)
    torch.testing.assert_close(loss, (prediction - target).pow(2).flatten(1).mean(1))


# Metrics


@pytest.mark.parametrize(
    ("name", "better", "expected"),
    [
        ("mean squared error", False, metrics.mean_squared_error),
        ("root mean squared error", False, lambda t, p: metrics.mean_squared_error(t, p) ** 0.5),
        ("mean absolute error", False, metrics.mean_absolute_error),
        (
            "explained variance",
            True,
            lambda t, p: 100 * metrics.r2_score(t, p, multioutput="variance_weighted"),
        ),
    ],
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_of_regression(name: str, better: bool, expected, outputs: int):
    task = Task.regression("y", outputs=outputs, metric=name)
    target = normal(30, outputs) * torch.arange(1, outputs + 1)
    prediction = target + normal(30, outputs, seed=2)
    assert task.higher_is_better is better
    assert task.score(prediction, target) == pytest.approx(
        expected(target.numpy(), prediction.numpy())
    )


def test_metrics_of_classification():
    prediction, target = normal(50, 3), classes(50, below=3)
    accuracy = metrics.accuracy_score(target.numpy(), prediction.argmax(1).numpy())
    assert Task.classification("c", 3).score(prediction, target) == pytest.approx(accuracy)
    wrong = Task.classification("c", 3, metric="error rate")
    assert wrong.score(prediction, target) == pytest.approx(1 - accuracy)
    assert not wrong.higher_is_better


def test_metrics_of_a_binary_task():
    prediction, target = normal(50, 1), classes(50, 1, below=2).double()
    said = (prediction > 0).numpy()
    accuracy = metrics.accuracy_score(target.numpy(), said)
    area = metrics.roc_auc_score(target.numpy()[:, 0], prediction.numpy()[:, 0])
    assert Task.binary("b").score(prediction, target) == pytest.approx(accuracy)
    error = Task.binary("b", metric="error rate")
    assert error.score(prediction, target) == pytest.approx(1 - accuracy)
    assert Task.binary("b", metric="area under the curve").score(
        prediction, target
    ) == pytest.approx(area)


def test_accuracy_of_tags_leaves_ignored_positions_out():
    target = torch.tensor([[0, 1, IGNORED], [1, IGNORED, IGNORED]])
    prediction = F.one_hot(torch.tensor([[0, 0, 0], [1, 0, 1]]), 2).double().movedim(2, 1)
    assert Task.tagging("t", labels=2).score(prediction, target) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("task", "metric", "width"),
    [
        (Task.regression("a", 2), "mean squared error", 2),
        (Task.binary("a", 3), "accuracy", 3),
        (Task.classification("a", 4), "accuracy", 4),
        (Task.tagging("a", 5), "accuracy", 5),
        (Task.dense_classification("a", 6), "accuracy", 6),
        (Task.dense_regression("a", 7), "mean squared error", 7),
    ],
)
def test_each_kind_has_a_default_metric_and_a_width(task: Task, metric: str, width: int):
    assert (task.metric.name, task.outputs) == (metric, width)
    assert task.is_classification == (
        task.kind in {"classification", "tagging", "dense classification"}
    )


def test_a_renamed_task_differs_by_its_name_only():
    task = Task.regression("a", 2, metric="mean absolute error")
    assert task.renamed("b") == Task.regression("b", 2, metric="mean absolute error")
    assert task.renamed("b") != task


# Errors


@pytest.mark.parametrize("name", ["", "1st", "my task", "a.b", "c-class"])
def test_a_name_that_is_no_identifier_is_refused(name: str):
    with pytest.raises(UsageError, match="must be an identifier"):
        Task.regression(name)


@pytest.mark.parametrize("outputs", [0, -1])
def test_a_head_without_outputs_is_refused(outputs: int):
    with pytest.raises(UsageError, match=r"'a' needs at least one output"):
        Task.regression("a", outputs=outputs)


def test_an_unknown_metric_is_refused_with_the_possible_ones():
    with pytest.raises(UsageError, match=r"no metric 'bleu': choose one of accuracy, error rate"):
        Task.binary("a", metric="bleu")
    with pytest.raises(UsageError, match=r"no metric 'accuracy': .*mean squared error"):
        Task.regression("a", metric="accuracy")


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Task.regression("a", 2), (5, 3)),
        (Task.regression("a"), (5, 1, 1)),
        (Task.binary("a", 3), (5, 2)),
        (Task.classification("a", 3), (5, 3)),
        (Task.tagging("a", 3), (5,)),
        (Task.dense_classification("a", 3), (5, 4)),
        (Task.dense_regression("a", 3), (5, 2, 4, 4)),
        (Task.dense_regression("a", 3), (5, 4, 4)),
    ],
)
def test_targets_of_a_wrong_shape_are_refused(task: Task, shape: tuple[int, ...]):
    target = torch.zeros(shape, dtype=torch.long if task.is_classification else torch.float64)
    with pytest.raises(UsageError) as error:
        task.check(target)
    assert "'a'" in str(error.value)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Task.regression("a", 2), (5, 2)),
        (Task.binary("a", 3), (5, 3)),
        (Task.classification("a", 3), (5,)),
        (Task.tagging("a", 3), (5, 7)),
        (Task.dense_classification("a", 3), (5, 4, 6)),
        (Task.dense_regression("a", 3), (5, 3, 4, 6)),
    ],
)
def test_targets_of_the_right_shape_go_into_the_loss(task: Task, shape: tuple[int, ...]):
    target = task.check(torch.zeros(shape, dtype=torch.int32))
    positions = shape[1:] if task.is_classification else shape[2:]
    loss = task.loss(normal(5, task.outputs, *positions).to(torch.get_default_dtype()), target)
    assert loss.shape == (5,)
    task.check_values(target)


def test_only_a_single_column_may_be_given_flat():
    with pytest.raises(UsageError, match=r"'a' \(regression, 2 outputs\)"):
        Task.regression("a", 2).check(torch.zeros(5))


def test_a_single_column_may_be_given_flat():
    flat = torch.arange(3, dtype=torch.float64)
    assert torch.equal(Task.regression("a").check(flat), flat[:, None])
    assert torch.equal(Task.binary("a").check(flat), flat[:, None])


def test_class_numbers_must_be_whole():
    with pytest.raises(
        UsageError, match=r"class numbers \(integers from 0 to 2\), not torch.float64"
    ):
        Task.classification("a", 3).check(torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("task", "values", "count", "possible"),
    [
        (Task.classification("a", 3), [0, 3, -1], 2, "whole numbers from 0 to 2"),
        (Task.binary("a"), [[0.0], [0.5], [1.0]], 1, "0 or 1"),
        (Task.binary("a"), [[0.0], [float("nan")], [1.0]], 1, "0 or 1"),
        (Task.regression("a"), [[float("nan")], [float("inf")], [1.0]], 2, "finite numbers"),
    ],
)
def test_impossible_values_are_counted_and_refused(task: Task, values, count: int, possible: str):
    with pytest.raises(
        UsageError, match=rf"{count} labelled targets of task 'a' are not {possible}"
    ):
        task.check_values(torch.tensor(values))


def test_ignored_positions_are_possible_values():
    Task.tagging("a", 2).check_values(torch.tensor([[0, 1, IGNORED]]))


@pytest.mark.parametrize("metric", ["root mean squared error", "mean absolute error"])
def test_tasks_can_be_sent_to_another_process(metric):
    task = Task.regression("level", metric=metric)
    assert pickle.loads(pickle.dumps(task)).metric.name == metric
