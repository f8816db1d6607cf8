"""Metrics: scores over a whole set of examples, from predictions and targets.

Positions that carry `IGNORED` in a target of class numbers do not count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor

from mtlbook.errors import UsageError

# The label of a position that has none: padding in a sequence, an unknown pixel.
IGNORED = -100


@dataclass(frozen=True)
class Metric:
    """A score over a whole set of examples, and the direction in which it is good."""

    name: str
    higher_is_better: bool
    compute: Callable[[Tensor, Tensor], Tensor]


def _mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def _root_mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return _mean_squared_error(prediction, target).sqrt()


def _mean_absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs().mean()


def _explained_variance(prediction: Tensor, target: Tensor) -> Tensor:
    residual = (prediction - target).square().sum()
    return 100 * (1 - residual / (target - target.mean(0)).square().sum())


def _accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    known = target != IGNORED
    return (prediction.argmax(1) == target)[known].double().mean()


def _error_rate(prediction: Tensor, target: Tensor) -> Tensor:
    return 1 - _accuracy(prediction, target)


def _binary_accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction > 0) == (target > 0.5)).double().mean()


def _binary_error_rate(prediction: Tensor, target: Tensor) -> Tensor:
    return 1 - _binary_accuracy(prediction, target)


def _area_under_curve(prediction: Tensor, target: Tensor) -> Tensor:
    score = roc_auc_score(target.cpu().numpy(), prediction.cpu().numpy())
    return torch.as_tensor(score, dtype=torch.float64)


def _deviance(log_rate: Tensor, count: Tensor) -> Tensor:
    return 2 * (torch.xlogy(count, count) - count * log_rate - count + log_rate.exp())


def _mean_deviance(prediction: Tensor, target: Tensor) -> Tensor:
    return _deviance(prediction, target).mean()


def _explained_deviance(prediction: Tensor, target: Tensor) -> Tensor:
    mean = target.mean(0).clamp(min=torch.finfo(target.dtype).tiny)
    of_the_mean = _deviance(mean.log(), target)
    return 100 * (1 - _deviance(prediction, target).sum() / of_the_mean.sum())


@dataclass(frozen=True)
class SpanF1:
    """F1 of exact spans, over labels of the BIO scheme: "O", "B-type" and "I-type" ("B" and "I").

    F1 = 2 c / (g + p) for g spans in the target, p in the prediction and c that agree in first
    position, last position and type; 0 where neither has any. A span begins as in the shared tasks
    of CoNLL (Tjong Kim Sang and Buchholz, 2000): at a "B", and at an "I" that follows no label of
    its type. Positions that the target ignores are skipped as if they were not there.

    Arguments:
        labels: the label of each class number.

    Raises:
        UsageError: for a label outside the scheme.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        foreign = [label for label in self.labels if label.partition("-")[0] not in ("B", "I", "O")]
        if foreign:
            raise UsageError(
                f"Spans are read from labels of the BIO scheme, and {foreign} are none: name them "
                "'O', 'B-type' or 'I-type'."
            )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The score of predictions `(examples, labels, length)` of targets `(examples, length)`."""
        # One long sequence, each example followed by a position outside of all spans.
        outside = len(self.labels)
        known = torch.cat([target != IGNORED, torch.ones_like(target[:, :1], dtype=torch.bool)], 1)
        ends = torch.full_like(target[:, :1], outside)
        true = torch.cat([target, ends], 1)[known]
        said = torch.cat([prediction.argmax(1), ends], 1)[known]
        begins, types, last = self._spans(true)
        said_begins, said_types, said_last = self._spans(said)
        agree = begins & said_begins & (types == said_types) & (last == said_last)
        total = begins.sum() + said_begins.sum()
        return 2 * agree.sum().double() / total.clamp(min=1)

    def _spans(
        self, labels: Int[Tensor, " length"]
    ) -> tuple[Bool[Tensor, " length"], Int[Tensor, " length"], Int[Tensor, " length"]]:
        """Where spans begin; each position's type of span (-1: outside) and its span's end."""
        schemes = [name.partition("-") for name in (*self.labels, "O")]
        known = sorted({kind for _, _, kind in schemes})
        type_of = torch.tensor([-1 if p == "O" else known.index(kind) for p, _, kind in schemes])
        opens = torch.tensor([prefix == "B" for prefix, _, _ in schemes])
        types = type_of.to(labels.device)[labels]
        before = torch.cat([types.new_full((1,), -1), types[:-1]])
        changes = types != before
        begins = (types >= 0) & (opens.to(labels.device)[labels] | changes)
        # A span ends before the next position at which one begins or the type changes.
        places = torch.arange(len(labels), device=labels.device)
        stops = torch.where(begins | changes, places, len(labels))
        last = torch.cat([stops[1:], stops.new_full((1,), len(labels))])
        return begins, types, last.flip(0).cummin(0).values.flip(0)


# The first metric of each kind of task is its default.
REGRESSION = (
    Metric("mean squared error", False, _mean_squared_error),
    Metric("root mean squared error", False, _root_mean_squared_error),
    Metric("mean absolute error", False, _mean_absolute_error),
    Metric("explained variance", True, _explained_variance),
)
CLASSIFICATION = (
    Metric("accuracy", True, _accuracy),
    Metric("error rate", False, _error_rate),
)
BINARY = (
    Metric("accuracy", True, _binary_accuracy),
    Metric("error rate", False, _binary_error_rate),
    Metric("area under the curve", True, _area_under_curve),
)
COUNTS = (
    Metric("mean Poisson deviance", False, _mean_deviance),
    Metric("explained deviance", True, _explained_deviance),
)


def tagging(labels: tuple[str, ...] | None) -> tuple[Metric, ...]:
    """The metrics of a tagging; with the F1 of spans where its labels are of the BIO scheme."""
    if labels is None or any(label.partition("-")[0] not in ("B", "I", "O") for label in labels):
        return CLASSIFICATION
    return (*CLASSIFICATION, Metric("span F1", True, SpanF1(labels)))
