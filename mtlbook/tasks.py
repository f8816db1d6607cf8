"""What is predicted: a task's name, the width of its head, its loss, its metric and its targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from mtlbook import metrics
from mtlbook.errors import UsageError
from mtlbook.metrics import IGNORED, Metric

__all__ = ["IGNORED", "ClassNumbers", "Metric", "Numbers", "Targets", "Task"]

# The loss of each example, `(examples,)`, from its prediction and its target.
Loss = Callable[[Tensor, Tensor], Tensor]
# The noise that the loss is the negative log-likelihood of, up to a factor and a constant.
Likelihood = Literal["gaussian", "categorical"]


@runtime_checkable
class Targets(Protocol):
    """What a task's targets look like."""

    @property
    def must_vary(self) -> bool:
        """Whether training labels that are all equal are a mistake: there is nothing to learn."""
        ...

    def form(self, target: Shaped[Tensor, "..."], task: "Task") -> Shaped[Tensor, "..."]:
        """The targets as the loss takes them, or a `UsageError` about their shape or dtype."""
        ...

    def impossible(self, target: Shaped[Tensor, "..."], task: "Task") -> Bool[Tensor, "..."]:
        """Marks of the values that the task cannot have."""
        ...

    def possible(self, task: "Task") -> str:
        """The values that the task can have, in words."""
        ...


@dataclass(frozen=True)
class Numbers:
    """Targets of a floating type, `(examples, outputs, *positions)`.

    A single number an example may be given flat, `(examples,)`, and becomes a column.

    Arguments:
        positions: axes that follow the outputs, as the height and width of an image.
        values: which numbers are possible; all are finite.
        must_vary: whether training labels that are all equal are a mistake.
    """

    positions: int = 0
    values: Literal["finite numbers", "0 or 1", "whole numbers from 0"] = "finite numbers"
    must_vary: bool = False

    def form(self, target: Shaped[Tensor, "..."], task: "Task") -> Shaped[Tensor, "..."]:
        """The targets in a floating type, flat ones as a column."""
        shaped = target.unsqueeze(1) if (target.ndim, self.positions) == (1, 0) else target
        if shaped.ndim != 2 + self.positions or shaped.shape[1] != task.outputs:
            raise _wrong_shape(target, task, ["examples", str(task.outputs)], self.positions)
        return shaped if shaped.is_floating_point() else shaped.double()

    def impossible(self, target: Shaped[Tensor, "..."], task: "Task") -> Bool[Tensor, "..."]:  # noqa: ARG002
        """Marks of the values that are not finite, or not among `values`."""
        if self.values == "0 or 1":
            return (target != 0) & (target != 1)
        finite = torch.isfinite(target)
        if self.values == "whole numbers from 0":
            return ~finite | (target < 0) | (target != target.round())
        return ~finite

    def possible(self, task: "Task") -> str:  # noqa: ARG002
        """The possible values in words."""
        return self.values


@dataclass(frozen=True)
class ClassNumbers:
    """Targets that are whole numbers below the task's outputs, `(examples, *positions)`, int64.

    Positions of a sequence or an image that carry `IGNORED` do not count.

    Arguments:
        positions: axes that follow the examples, as the length of a sequence.
        must_vary: whether training labels that are all equal are a mistake.
    """

    positions: int = 0
    must_vary: bool = False

    def form(self, target: Shaped[Tensor, "..."], task: "Task") -> Shaped[Tensor, "..."]:
        """The targets as int64."""
        if target.ndim != 1 + self.positions:
            raise _wrong_shape(target, task, ["examples"], self.positions)
        if target.is_floating_point():
            raise UsageError(
                f"Task {task.name!r} is a {task.kind}: its targets must be class numbers "
                f"(integers from 0 to {task.outputs - 1}), not {target.dtype}."
            )
        return target.long()

    def impossible(self, target: Shaped[Tensor, "..."], task: "Task") -> Bool[Tensor, "..."]:
        """Marks of the numbers that are no class."""
        return (target != IGNORED) & ((target < 0) | (target >= task.outputs))

    def possible(self, task: "Task") -> str:
        """The class numbers in words."""
        return f"whole numbers from 0 to {task.outputs - 1}"


def _wrong_shape(target: Tensor, task: "Task", axes: list[str], positions: int) -> UsageError:
    names = {0: [], 1: ["length"], 2: ["height", "width"]}
    shape = [*axes, *names.get(positions, [f"position {n + 1}" for n in range(positions)])]
    return UsageError(
        f"The targets of task {task.name!r} ({task.kind}, {task.outputs} outputs) have the shape "
        f"{tuple(target.shape)}: the shape that they need is ({', '.join(shape)})."
    )


def squared_error(
    prediction: Float[Tensor, "examples outputs *positions"],
    target: Float[Tensor, "examples outputs *positions"],
) -> Float[Tensor, " examples"]:
    """(y − ŷ)², averaged over the outputs and positions of each example."""
    return (prediction - target).square().flatten(1).mean(1)


def logistic(
    prediction: Float[Tensor, "examples outputs"], target: Float[Tensor, "examples outputs"]
) -> Float[Tensor, " examples"]:
    """The binary cross-entropy of log-odds, averaged over the outputs of each example."""
    each = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
    return each.flatten(1).mean(1)


def poisson(
    prediction: Float[Tensor, "examples outputs"], target: Float[Tensor, "examples outputs"]
) -> Float[Tensor, " examples"]:
    """−log p(y) = exp(η) − y η + log y! of counts with the log-rates η, averaged over outputs."""
    each = prediction.exp() - target * prediction + torch.lgamma(target + 1)
    return each.flatten(1).mean(1)


@dataclass(frozen=True)
class CrossEntropy:
    """−log p(class), a mean over the positions of each example that are not `IGNORED`.

    With weights w the mean is weighted: Σ_t w(y_t) (−log p_t(y_t)) / Σ_t w(y_t). An example
    without any known position has the loss 0.

    Arguments:
        weights: one for each class; none weighs all alike.
        length: divide the sum over an example's positions by this number and not by their own
            number (or weight), so that each position counts alike in examples of any length.
    """

    weights: tuple[int | float, ...] | None = None
    length: int | float | None = None

    def __call__(
        self, prediction: Float[Tensor, "examples outputs *positions"], target: Tensor
    ) -> Float[Tensor, " examples"]:
        """The loss of each example."""
        weights = None if self.weights is None else prediction.new_tensor(self.weights)
        each = F.cross_entropy(prediction, target, weights, reduction="none", ignore_index=IGNORED)
        if each.ndim == 1:
            return each
        total = each.flatten(1).sum(1)
        if self.length is not None:
            return total / self.length
        known = (target != IGNORED).to(each.dtype)
        if weights is None:
            return total / known.flatten(1).sum(1).clamp(min=1)
        weight = (weights[target.clamp(min=0)] * known).flatten(1).sum(1)
        return total / torch.where(weight > 0, weight, 1)


@dataclass(frozen=True)
class Task:
    """One prediction problem: its name, the width of its head, its loss, metric and targets.

    A prediction has shape `(examples, outputs, *positions)`. The constructors:

    | constructor          | target                                     | loss                   |
    |----------------------|--------------------------------------------|------------------------|
    | regression           | `(examples, outputs)`, real                | mean squared error     |
    | binary               | `(examples, outputs)`, 0 or 1              | logistic               |
    | counts               | `(examples, outputs)`, whole numbers from 0| Poisson likelihood     |
    | classification       | `(examples,)`, class number                | cross-entropy          |
    | tagging              | `(examples, length)`, label number         | cross-entropy          |
    | dense classification | `(examples, height, width)`, class number  | cross-entropy          |
    | dense regression     | `(examples, outputs, height, width)`, real | mean squared error     |
    | custom               | your own                                   | your own               |

    Positions that carry `IGNORED` in a tagging or dense classification target do not count.

    Attributes:
        outputs: width of the task's head.
        example_loss: the loss of each example, from prediction and target.
        metric: the score over a set of examples.
        targets: the shape and the values that targets have.
        likelihood: the noise whose negative log-likelihood the loss is, where it is one: gaussian
            (squared error / 2σ²) or categorical.
        kind: what messages call this kind of task; nothing is decided by it.

    Example:
        >>> digit = Task.classification("digit", classes=10)
        >>> digit.outputs, digit.metric.name
        (10, 'accuracy')
    """

    name: str
    outputs: int
    example_loss: Loss
    metric: Metric
    targets: Targets
    likelihood: Likelihood | None = None
    kind: str = "custom task"

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
        score = _chosen(name, "regression", metrics.REGRESSION, metric)
        return Task(name, outputs, squared_error, score, Numbers(), "gaussian", "regression")

    @staticmethod
    def binary(name: str, outputs: int = 1, metric: str | None = None) -> "Task":
        """One yes-or-no label, or several that are not exclusive (a multi-label head)."""
        score = _chosen(name, "binary", metrics.BINARY, metric)
        targets = Numbers(values="0 or 1", must_vary=True)
        return Task(name, outputs, logistic, score, targets, "categorical", "binary")

    @staticmethod
    def counts(name: str, outputs: int = 1, metric: str | None = None) -> "Task":
        """How often something happens: the prediction is the logarithm of a Poisson rate."""
        score = _chosen(name, "counts", metrics.COUNTS, metric)
        return Task(
            name, outputs, poisson, score, Numbers(values="whole numbers from 0"), None, "counts"
        )

    @staticmethod
    def classification(name: str, classes: int, metric: str | None = None) -> "Task":
        """One of several exclusive classes."""
        score = _chosen(name, "classification", metrics.CLASSIFICATION, metric)
        targets = ClassNumbers(must_vary=True)
        return Task(name, classes, CrossEntropy(), score, targets, "categorical", "classification")

    @staticmethod
    def tagging(
        name: str,
        labels: int | Sequence[str],
        metric: str | None = None,
        *,
        weights: Sequence[int | float] | None = None,
        length: int | float | None = None,
    ) -> "Task":
        """One of several labels at each position of a sequence.

        Arguments:
            name: of the task.
            labels: how many, or their names; with names of the BIO scheme ("O", "B-type",
                "I-type") the metric "span F1" can be chosen.
            metric: "accuracy" and "error rate" are of the known positions.
            weights: what the loss of a token counts, one weight for each label.
            length: the number of tokens that a sequence's loss is divided by; its own number if
                none is given. With one number for all, long sequences count as their tokens do.

        Example:
            >>> chunk = Task.tagging("chunk", ["O", "B-noun", "I-noun"], metric="span F1")
            >>> logits = torch.eye(3)[torch.tensor([[1, 2, 0]])].mT  # predicts B-noun I-noun O
            >>> chunk.score(logits, torch.tensor([[1, 2, IGNORED]]))
            1.0
        """
        names = None if isinstance(labels, int) else tuple(labels)
        outputs = labels if isinstance(labels, int) else len(labels)
        score = _chosen(name, "tagging", metrics.tagging(names), metric)
        loss = CrossEntropy(None if weights is None else tuple(weights), length)
        if loss.weights is not None and (len(loss.weights) != outputs or min(loss.weights) < 0):
            raise UsageError(
                f"Task {name!r} has {outputs} labels and the weights {loss.weights}: give each "
                "label a weight of 0 or more."
            )
        if length is not None and length <= 0:
            raise UsageError(f"Task {name!r} cannot divide by {length} tokens: give more than 0.")
        return Task(name, outputs, loss, score, ClassNumbers(1), "categorical", "tagging")

    @staticmethod
    def dense_classification(name: str, classes: int, metric: str | None = None) -> "Task":
        """One of several classes at each pixel (segmentation)."""
        kind = "dense classification"
        score = _chosen(name, kind, metrics.CLASSIFICATION, metric)
        return Task(name, classes, CrossEntropy(), score, ClassNumbers(2), "categorical", kind)

    @staticmethod
    def dense_regression(name: str, outputs: int = 1, metric: str | None = None) -> "Task":
        """Real values at each pixel (depth, surface normals)."""
        kind = "dense regression"
        score = _chosen(name, kind, metrics.REGRESSION, metric)
        return Task(name, outputs, squared_error, score, Numbers(2), "gaussian", kind)

    @staticmethod
    def custom(
        name: str,
        outputs: int,
        loss: Loss,
        metric: Metric,
        *,
        targets: Targets | None = None,
        likelihood: Likelihood | None = None,
        kind: str = "custom task",
    ) -> "Task":
        """Any loss and metric. Functions of a module (no lambdas) let the task be pickled.

        Arguments:
            name: of the task.
            outputs: width of the head.
            loss: takes predictions `(examples, outputs, *positions)` and targets and gives the
                loss of each example, `(examples,)`; it may be called under `torch.func.vmap`.
            metric: a name, a direction, and a function of predictions and targets.
            targets: their shape and values; `Numbers()` if none is given.
            likelihood: "gaussian" where the loss is a mean of squares, "categorical" where it is a
                cross-entropy; uncertainty weighting asks for it.
            kind: what messages call the task.

        Example:
            >>> def absolute(prediction, target):
            ...     return (prediction - target).abs().mean(1)
            >>> def error(prediction, target):
            ...     return (prediction - target).abs().median()
            >>> task = Task.custom("y", 1, absolute, Metric("median error", False, error))
            >>> task.loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [5.0]]))
            tensor([0., 3.])
        """
        return Task(name, outputs, loss, metric, targets or Numbers(), likelihood, kind)

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
        """The loss of each example: averaged over the outputs and positions, not over examples.

        Raises:
            UsageError: where the task's own loss is not one number an example.
        """
        each = self.example_loss(prediction, target)
        if each.shape != prediction.shape[:1]:
            raise UsageError(
                f"The loss of task {self.name!r} has the shape {tuple(each.shape)} for "
                f"{len(prediction)} examples: it must be one number an example, averaged over "
                "nothing but the example's own outputs and positions."
            )
        return each

    def score(
        self,
        prediction: Float[Tensor, "examples outputs *positions"],
        target: Shaped[Tensor, "..."],
    ) -> float:
        """The task's metric over a set of examples."""
        return float(self.metric.compute(prediction.detach(), target))

    def check(self, target: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """The target in the form that the loss takes, or an error that says what is wrong.

        Returns:
            Class numbers as int64, all else in the target's floating type; a single real or
            0-or-1 target per example becomes a column.

        Raises:
            UsageError: for what is no tensor, and for a wrong shape or dtype.
        """
        if not isinstance(target, Tensor):
            raise UsageError(
                f"The targets of task {self.name!r} are a {type(target).__name__}: give a tensor "
                "of numbers (torch.as_tensor)."
            )
        return self.targets.form(target, self)

    def check_values(self, target: Shaped[Tensor, "..."]) -> None:
        """Raise a `UsageError` where labelled targets have values that the task cannot have."""
        impossible = self.targets.impossible(target, self)
        if impossible.any():
            raise UsageError(
                f"{int(impossible.sum())} labelled targets of task {self.name!r} are not "
                f"{self.targets.possible(self)}: mend them, or mark their rows as not labelled."
            )


def _chosen(name: str, kind: str, known: Sequence[Metric], metric: str | None) -> Metric:
    """The metric of that name, by default the first."""
    if metric is None:
        return known[0]
    by_name = {candidate.name: candidate for candidate in known}
    if metric not in by_name:
        remedy = " (label names of the BIO scheme add span F1)" if metric == "span F1" else ""
        raise UsageError(
            f"Task {name!r} ({kind}) has no metric {metric!r}: choose one of "
            f"{', '.join(by_name)}{remedy}."
        )
    return by_name[metric]
