"""What is predicted: a task's name, the width of its head, its loss and its metric."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from mtlbook.errors import UsageError

Kind = Literal[
    "regression",
    "binary",
    "classification",
    "tagging",
    "dense classification",
    "dense regression",
]

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


_REGRESSION = (
    Metric("mean squared error", False, _mean_squared_error),
    Metric("root mean squared error", False, _root_mean_squared_error),
    Metric("mean absolute error", False, _mean_absolute_error),
    Metric("explained variance", True, _explained_variance),
)
_CLASSIFICATION = (
    Metric("accuracy", True, _accuracy),
    Metric("error rate", False, _error_rate),
)
_BINARY = (
    Metric("accuracy", True, _binary_accuracy),
    Metric("error rate", False, _binary_error_rate),
    Metric("area under the curve", True, _area_under_curve),
)
# The first metric of each kind is its default.
_METRICS: dict[Kind, tuple[Metric, ...]] = {
    "regression": _REGRESSION,
    "binary": _BINARY,
    "classification": _CLASSIFICATION,
    "tagging": _CLASSIFICATION,
    "dense classification": _CLASSIFICATION,
    "dense regression": _REGRESSION,
}


@dataclass(frozen=True)
class Task:
    """One prediction problem: its name, kind, width of its head, and metric.

    A prediction has shape `(examples, outputs, *positions)`; what the target looks like
    depends on the kind:

    | kind                 | target                                    | loss                 |
    |----------------------|-------------------------------------------|----------------------|
    | regression           | `(examples, outputs)`, real               | mean squared error   |
    | binary               | `(examples, outputs)`, 0 or 1             | logistic             |
    | classification       | `(examples,)`, class number               | cross-entropy        |
    | tagging              | `(examples, length)`, label number        | cross-entropy        |
    | dense classification | `(examples, height, width)`, class number | cross-entropy        |
    | dense regression     | `(examples, outputs, height, width)`, real| mean squared error   |

    Positions that carry `IGNORED` in a tagging or dense classification target do not count.

    Example:
        >>> digit = Task.classification("digit", classes=10)
        >>> digit.outputs, digit.metric.name
        (10, 'accuracy')
    """

    name: str
    kind: Kind
    outputs: int
    metric: Metric

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UsageError(
                f"A task's name becomes part of its head's parameter names: {self.name!r} must be "
                "an identifier (letters, digits and underscores, not starting with a digit)."
            )
        if self.outputs < 1:
            raise UsageError(f"Task {self.name!r} needs at least one output, not {self.outputs}.")

    @staticmethod
    def regression(name: str, outputs: int = 1, metric: str | None = None) -> "Task":
        """One or several real targets."""
        return _make(name, "regression", outputs, metric)

    @staticmethod
    def binary(name: str, outputs: int = 1, metric: str | None = None) -> "Task":
        """One yes-or-no label, or several that are not exclusive (a multi-label head)."""
        return _make(name, "binary", outputs, metric)

    @staticmethod
    def classification(name: str, classes: int, metric: str | None = None) -> "Task":
        """One of several exclusive classes."""
        return _make(name, "classification", classes, metric)

    @staticmethod
    def tagging(name: str, labels: int, metric: str | None = None) -> "Task":
        """One of several labels at each position of a sequence."""
        return _make(name, "tagging", labels, metric)

    @staticmethod
    def dense_classification(name: str, classes: int, metric: str | None = None) -> "Task":
        """One of several classes at each pixel (segmentation)."""
        return _make(name, "dense classification", classes, metric)

    @staticmethod
    def dense_regression(name: str, outputs: int = 1, metric: str | None = None) -> "Task":
        """Real values at each pixel (depth, surface normals)."""
        return _make(name, "dense regression", outputs, metric)

    @property
    def is_classification(self) -> bool:
        """Whether the target is a class number (and not a real or a 0-or-1 value)."""
        return self.kind in ("classification", "tagging", "dense classification")

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the task's metric is the better one."""
        return self.metric.higher_is_better

    def renamed(self, name: str) -> "Task":
        """The same kind of task under another name."""
        return replace(self, name=name)

    def loss(
        self,
        prediction: Float[Tensor, "examples outputs *positions"],
        target: Shaped[Tensor, "..."],
    ) -> Float[Tensor, " examples"]:
        """The loss of each example: averaged over the outputs and positions, not over examples."""
        if self.is_classification:
            each = F.cross_entropy(prediction, target, reduction="none", ignore_index=IGNORED)
            if each.ndim == 1:
                return each
            known = (target != IGNORED).to(each.dtype).flatten(1).sum(1)
            return each.flatten(1).sum(1) / known.clamp(min=1)
        if self.kind == "binary":
            each = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        else:
            each = (prediction - target).square()
        return each.flatten(1).mean(1)

    def score(
        self,
        prediction: Float[Tensor, "examples outputs *positions"],
        target: Shaped[Tensor, "..."],
    ) -> float:
        """The task's metric over a set of examples."""
        return float(self.metric.compute(prediction.detach(), target))

    def check(self, target: Tensor) -> Tensor:
        """The target in the form that the loss takes, or an error that says what is wrong.

        Returns:
            Class numbers as int64, all else in the target's floating type; a single real or
            0-or-1 target per example becomes a column.

        Raises:
            UsageError: for a wrong shape, or values that the kind of task does not have.
        """
        dimensions = {"classification": 1, "tagging": 2, "dense classification": 3}.get(
            self.kind, 4 if self.kind == "dense regression" else 2
        )
        shape = tuple(target.shape)
        if dimensions == 2 and target.ndim == 1 and not self.is_classification:
            target = target.unsqueeze(1)
        wide = self.is_classification or (target.ndim > 1 and target.shape[1] == self.outputs)
        if target.ndim != dimensions or not wide:
            raise UsageError(
                f"The targets of task {self.name!r} ({self.kind}, {self.outputs} outputs) have the "
                f"shape {shape}; see the table in Task for the shape that they need."
            )
        if not self.is_classification:
            return target if target.is_floating_point() else target.double()
        if target.is_floating_point():
            raise UsageError(
                f"Task {self.name!r} is a {self.kind}: its targets must be class numbers "
                f"(integers from 0 to {self.outputs - 1}), not {target.dtype}."
            )
        return target.long()

    def check_values(self, target: Tensor) -> None:
        """Raise a `UsageError` where labelled targets have values that the task cannot have."""
        if self.is_classification:
            known = target[target != IGNORED]
            impossible = (known < 0) | (known >= self.outputs)
            possible = f"whole numbers from 0 to {self.outputs - 1}"
        elif self.kind == "binary":
            impossible, possible = (target != 0) & (target != 1), "0 or 1"
        else:
            impossible, possible = ~torch.isfinite(target), "finite numbers"
        if impossible.any():
            raise UsageError(
                f"{int(impossible.sum())} labelled targets of task {self.name!r} are not "
                f"{possible}: mend them, or mark their rows as not labelled."
            )


def _make(name: str, kind: Kind, outputs: int, metric: str | None) -> Task:
    metrics = {candidate.name: candidate for candidate in _METRICS[kind]}
    chosen = next(iter(metrics)) if metric is None else metric
    if chosen not in metrics:
        raise UsageError(
            f"Task {name!r} ({kind}) has no metric {chosen!r}: choose one of {', '.join(metrics)}."
        )
    return Task(name, kind, outputs, metrics[chosen])
