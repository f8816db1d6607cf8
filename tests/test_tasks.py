"""Losses against PyTorch and closed forms, metrics against scikit-learn, and every error."""

import math
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import config
from sklearn import metrics
from torch import Tensor
from torch.nn import functional as F

from mtlbook.errors import UsageError
from mtlbook.metrics import SpanF1
from mtlbook.tasks import IGNORED, ClassNumbers, Metric, Numbers, Task

finite = st.floats(-20, 20)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As in a user's run, where shapes are not checked at every call as they are in tests."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


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


@given(arrays(float, (6, 2), elements=st.floats(-5, 5)), st.integers(0, 2**31))
def test_count_loss_is_the_poisson_log_likelihood_of_scipy(log_rate, seed: int):
    count = np.random.default_rng(seed).poisson(3.0, (6, 2)).astype(float)
    loss = Task.counts("n", outputs=2).loss(torch.from_numpy(log_rate), torch.from_numpy(count))
    expected = -scipy.stats.poisson.logpmf(count, np.exp(log_rate)).mean(1)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_label_weights_are_those_of_pytorch():
    weights = (0.5, 2.0, 0.0, 1.5)
    prediction, target = normal(5, 4, 7), classes(5, 7, below=4)
    target[1, 4:], target[2] = IGNORED, IGNORED
    loss = Task.tagging("t", 4, weights=weights).loss(prediction, target)
    for example in (0, 1, 3, 4):
        expected = F.cross_entropy(
            prediction[example].T, target[example], torch.tensor(weights, dtype=torch.float64)
        )
        torch.testing.assert_close(loss[example], expected)
    assert float(loss[2]) == 0


def test_with_one_length_every_token_counts_alike():
    prediction, target = normal(3, 4, 6), classes(3, 6, below=4)
    target[0, 2:], target[1, 5:] = IGNORED, IGNORED
    per_token = Task.tagging("t", 4, length=2).loss(prediction, target)
    # The mean over all 2 + 5 + 6 tokens, up to the constant 13 / 3 tokens a sentence over 2.
    pooled = F.cross_entropy(prediction, target, ignore_index=IGNORED)
    torch.testing.assert_close(per_token.mean(), pooled * 13 / 3 / 2)
    # Otherwise every sentence counts alike.
    assert not torch.allclose(Task.tagging("t", 4).loss(prediction, target).mean(), pooled)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0, 2.0]}, r"'t' has 3 labels and the weights \(1.0, 2.0\)"),
        ({"weights": [1.0, 2.0, -1.0]}, r"give each label a weight of 0 or more"),
        ({"length": 0}, r"'t' cannot divide by 0 tokens"),
    ],
)
def test_impossible_weights_and_lengths_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Task.tagging("t", 3, **options)


TASKS = [
    Task.regression("a", 2),
    Task.binary("a", 2),
    Task.counts("a", 2),
    Task.classification("a", 4),
    Task.tagging("a", 4),
    Task.tagging("a", 4, weights=(1.0, 2.0, 3.0, 4.0)),
    Task.dense_classification("a", 4),
    Task.dense_regression("a", 2),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_losses_of_several_replicas_at_once_are_those_one_by_one(task: Task):
    positions = {"tagging": (3,)}.get(task.kind, (3, 5) if "dense" in task.kind else ())
    shape = positions if isinstance(task.targets, ClassNumbers) else (2, *positions)
    target = torch.stack([classes(6, *shape, below=2, seed=n) for n in range(3)])
    if not isinstance(task.targets, ClassNumbers):
        target = target.double()
    elif positions:
        target[:, 0] = IGNORED
    prediction = normal(3, 6, task.outputs, *positions)
    alone = [task.loss(*both) for both in zip(prediction, target, strict=True)]
    torch.testing.assert_close(torch.vmap(task.loss)(prediction, target), torch.stack(alone))


# A new kind of task is a constructor and no edit elsewhere.


@dataclass(frozen=True)
class Pinball:
    """The loss whose minimum is a quantile (Koenker and Bassett, 1978)."""

    quantile: float

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        over = target - prediction
        return torch.maximum(self.quantile * over, (self.quantile - 1) * over).mean(1)


class MeanPinball(Pinball):
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().__call__(prediction, target).mean()


def quantile(name: str, at: float) -> Task:
    metric = Metric("pinball loss", False, MeanPinball(at))
    return Task.custom(name, 1, Pinball(at), metric, kind="quantile regression")


def test_a_new_kind_of_task_is_a_function_of_the_user_s():
    task = quantile("upper", 0.9)
    target = task.check(normal(200))
    prediction = normal(200, 1, seed=2)
    expected = metrics.mean_pinball_loss(target.numpy(), prediction.numpy(), alpha=0.9)
    assert float(task.loss(prediction, target).mean()) == pytest.approx(expected)
    assert task.score(prediction, target) == pytest.approx(expected)
    assert pickle.loads(pickle.dumps(task)) == task == quantile("upper", 0.9)
    assert len({task, quantile("upper", 0.9), quantile("upper", 0.8)}) == 2
    assert task.likelihood is None
    with pytest.raises(UsageError, match=r"'upper' \(quantile regression, 1 outputs\)"):
        task.check(normal(5, 2))


def test_a_new_kind_of_task_says_what_its_targets_are():
    metric = Metric("error", False, MeanPinball(0.5))
    points = Task.custom("p", 2, Pinball(0.5), metric, targets=Numbers(positions=1))
    assert points.check(torch.zeros(5, 2, 9)).shape == (5, 2, 9)
    with pytest.raises(UsageError, match=r"\(5, 9\).* they need is \(examples, 2, length\)"):
        points.check(torch.zeros(5, 9))


@pytest.mark.parametrize("reduced", [lambda p, t: (p - t).abs(), lambda p, t: (p - t).mean()])
def test_a_loss_that_is_not_one_number_an_example_is_refused(reduced):
    task = Task.custom("y", 1, reduced, Metric("error", False, MeanPinball(0.5)))
    with pytest.raises(UsageError, match=r"'y' has the shape .* one number an example"):
        task.loss(normal(5, 1), normal(5, 1))


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


def test_metrics_of_counts():
    rate, count = normal(60, 1).exp(), torch.poisson(normal(60, 1).exp() + 1)
    deviance = metrics.mean_poisson_deviance(count.numpy(), rate.numpy())
    assert Task.counts("n").score(rate.log(), count) == pytest.approx(deviance)
    explained = Task.counts("n", metric="explained deviance")
    assert explained.higher_is_better
    assert explained.score(rate.log(), count) == pytest.approx(
        100 * metrics.d2_tweedie_score(count.numpy()[:, 0], rate.numpy()[:, 0], power=1)
    )


# The F1 of spans

BIO = ("O", "B-x", "I-x", "B-y", "I-y")


def spans(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    """The spans of one sentence, read token by token as CoNLL's evaluation reads them."""
    found, start, kind = set(), None, ""
    for place, label in enumerate([*labels, "O"]):
        goes_on = start is not None and label == f"I-{kind}"
        if start is not None and not goes_on:
            found.add((start, place, kind))
            start = None
        if label != "O" and not goes_on:
            start, kind = place, label[2:]
    return found


def f1(said: list[list[str]], true: list[list[str]]) -> float:
    pairs = [(spans(one), spans(other)) for one, other in zip(said, true, strict=True)]
    agree = sum(len(one & other) for one, other in pairs)
    total = sum(len(one) + len(other) for one, other in pairs)
    return 2 * agree / total if total else 0.0


def span_f1(said: list[list[str]], true: list[list[str]]) -> float:
    """As the metric computes it, from logits and padded class numbers."""
    length = max(map(len, true))

    def numbers(sentences: list[list[str]], pad: int) -> Tensor:
        rows = [[*map(BIO.index, each), *[pad] * (length - len(each))] for each in sentences]
        return torch.tensor(rows)

    # The padding predicts spans, which must not count.
    logits = F.one_hot(numbers(said, 1), len(BIO)).double().movedim(2, 1)
    task = Task.tagging("chunk", BIO, metric="span F1")
    return task.score(logits, numbers(true, IGNORED))


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        ("B-x I-x O", "B-x I-x O", 1.0),
        ("B-x O O", "B-x I-x O", 0.0),  # another last position
        ("O I-x O", "B-x I-x O", 0.0),  # another first position
        ("B-y I-y O", "B-x I-x O", 0.0),  # another type
        ("I-x I-x O", "B-x I-x O", 1.0),  # I- without B- begins a span
        ("B-x I-y O", "B-x B-y O", 1.0),  # I- of another type begins one, too
        ("B-x B-x O", "B-x I-x O", 0.0),  # two spans side by side are not one
        ("B-x I-x B-x", "B-x I-x O", 2 / 3),
        ("O O O", "B-x I-x O", 0.0),
        ("O O O", "O O O", 0.0),
        ("O O B-x", "O O B-x", 1.0),  # a span may end with the sentence
    ],
)
def test_spans_count_when_both_ends_and_the_type_agree(said: str, true: str, expected: float):
    assert span_f1([said.split()], [true.split()]) == pytest.approx(expected)
    assert f1([said.split()], [true.split()]) == pytest.approx(expected)


def test_spans_do_not_run_from_one_sentence_into_the_next():
    sentences = [["O", "B-x"], ["I-x", "O"]]
    assert span_f1(sentences, sentences) == 1
    assert span_f1([["O", "B-x"], ["O", "O"]], sentences) == pytest.approx(2 / 3)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(BIO), st.sampled_from(BIO)), min_size=1, max_size=8),
        min_size=1,
        max_size=4,
    )
)
def test_the_f1_of_spans_is_that_of_a_reading_token_by_token(sentences):
    said = [[one for one, _ in each] for each in sentences]
    true = [[other for _, other in each] for each in sentences]
    assert span_f1(said, true) == pytest.approx(f1(said, true))


def test_ignored_positions_inside_a_sentence_are_skipped():
    target = torch.tensor([[1, IGNORED, 2, 0]])
    logits = F.one_hot(torch.tensor([[1, 0, 2, 0]]), len(BIO)).double().movedim(2, 1)
    assert float(SpanF1(BIO)(logits, target)) == 1


def test_spans_of_one_type_need_no_name():
    labels = F.one_hot(torch.tensor([[1, 2, 0]]), 3).double().movedim(2, 1)
    task = Task.tagging("chunk", ["O", "B", "I"], metric="span F1")
    assert task.score(labels, torch.tensor([[1, 2, 0]])) == 1


def test_labels_outside_the_scheme_have_no_spans():
    for labels in (3, ["NOUN", "VERB"]):
        with pytest.raises(UsageError, match=r"no metric 'span F1'.*BIO"):
            Task.tagging("part", labels, metric="span F1")
    assert Task.tagging("part", ["NOUN", "VERB"]).metric.name == "accuracy"
    with pytest.raises(UsageError, match=r"\['NOUN'\] are none"):
        SpanF1(("O", "NOUN"))


@pytest.mark.parametrize(
    ("task", "metric", "width"),
    [
        (Task.regression("a", 2), "mean squared error", 2),
        (Task.binary("a", 3), "accuracy", 3),
        (Task.classification("a", 4), "accuracy", 4),
        (Task.tagging("a", 5), "accuracy", 5),
        (Task.dense_classification("a", 6), "accuracy", 6),
        (Task.dense_regression("a", 7), "mean squared error", 7),
        (Task.counts("a", 8), "mean Poisson deviance", 8),
    ],
)
def test_each_kind_has_a_default_metric_and_a_width(task: Task, metric: str, width: int):
    assert (task.metric.name, task.outputs) == (metric, width)


def test_squares_are_gaussian_and_cross_entropies_categorical():
    assert {task.kind: task.likelihood for task in TASKS} == {
        "regression": "gaussian",
        "dense regression": "gaussian",
        "binary": "categorical",
        "classification": "categorical",
        "tagging": "categorical",
        "dense classification": "categorical",
        "counts": None,
    }


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
        (Task.counts("a", 3), (5, 2)),
        (Task.classification("a", 3), (5, 3)),
        (Task.tagging("a", 3), (5,)),
        (Task.dense_classification("a", 3), (5, 4)),
        (Task.dense_regression("a", 3), (5, 2, 4, 4)),
        (Task.dense_regression("a", 3), (5, 4, 4)),
    ],
)
def test_targets_of_a_wrong_shape_are_refused(task: Task, shape: tuple[int, ...]):
    target = torch.zeros(
        shape, dtype=torch.long if isinstance(task.targets, ClassNumbers) else torch.float64
    )
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
    positions = shape[1:] if isinstance(task.targets, ClassNumbers) else shape[2:]
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
        (Task.counts("a"), [[-1.0], [0.5], [float("inf")], [3.0]], 3, "whole numbers from 0"),
    ],
)
def test_impossible_values_are_counted_and_refused(task: Task, values, count: int, possible: str):
    with pytest.raises(
        UsageError, match=rf"{count} labelled targets of task 'a' are not {possible}"
    ):
        task.check_values(torch.tensor(values))


def test_ignored_positions_are_possible_values():
    Task.tagging("a", 2).check_values(torch.tensor([[0, 1, IGNORED]]))


@pytest.mark.parametrize(
    "task",
    [
        *TASKS,
        Task.regression("level", metric="root mean squared error"),
        Task.tagging("chunk", BIO, metric="span F1", length=5),
    ],
    ids=lambda task: f"{task.kind} {task.metric.name}",
)
def test_tasks_can_be_sent_to_another_process(task: Task):
    again = pickle.loads(pickle.dumps(task))
    assert (again, hash(again)) == (task, hash(task))


@pytest.mark.usefixtures("unchecked")
def test_targets_that_are_no_tensor_are_refused():
    with pytest.raises(UsageError, match=r"targets of task 'a' are a list: give a tensor"):
        Task.regression("a").check([1.0, "x"])  # pyright: ignore[reportArgumentType]
