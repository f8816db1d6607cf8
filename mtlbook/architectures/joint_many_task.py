r"""Section 6.5, a joint many-task model: a level for each task, the words and lower labels in each.

Tasks are ordered from low to high. Level k encodes the states of the level below, the word vectors
x and the expected embeddings of the labels that the tasks below predict (Hashimoto, Xiong, Tsuruoka
and Socher, 2017, sections 2.2 to 2.4 and equation 2; Ruder, 2017, section 6.5):

    h⁽ᵏ⁾ = encoder_k([h⁽ᵏ⁻¹⁾; x; y⁽ᵏ⁾]),   p⁽ᵏ⁾ = softmax(head_k(h⁽ᵏ⁾)),
    y⁽ᵏ⁾ = Σ_{m<k} Σ_j p⁽ᵐ⁾_j ℓ⁽ᵐ⁾_j

x in each level is a *shortcut connection*, h⁽ᵏ⁻¹⁾ a *vertical* one. Tasks are trained one after
another, a whole pass each, lowest first. So that a pass does not undo those before it, it minimises

    J_k = −log p⁽ᵏ⁾ + λ ‖W‖² + δ ‖θ_{<k} − θ′_{<k}‖²

(*successive regularisation*, equations 6 to 10): θ_{<k} is all that level k stands upon, θ′ its
value when the pass begins. `SuccessiveRegularisation` is this penalty for `fit`, `distance` and
`anchored`, its proximal form, serve any loop. Without label embeddings and shortcuts the network is
low supervision (section 6.4), with one task a plain stack.

**Where it fails.** Optimisers that remember (momentum, Adam) carry one task's gradients into the
next task's pass. The anchor is isotropic: it holds what a lower task needs and what it does not.
In the paper's own ablation the vertical connections matter little (table 9).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, make, named

# One tensor, or several by name: tokens and their mask. The stages know which one.
if TYPE_CHECKING:
    Inputs = Any
else:
    Inputs = Tensor | Mapping[str, Tensor]
Features = Tensor | Mapping[str, Tensor]


@runtime_checkable
class Pass(Protocol):
    """What a penalty is told of a step: whose pass it belongs to, and how that pass began."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the step."""
        ...

    @property
    def earlier(self) -> Mapping[str, Tensor]:
        """The parameters, by name, when the pass began."""
        ...


class JointManyTask(nn.Module):
    """An embedding, then a level for each task, lowest first: an encoder and a head.

    Arguments:
        stages: makes the embedding, from the inputs to x, and then one encoder for each head,
            which takes the parts of its input behind one another in the last axis. What stages pass
            on is a tensor, or `{"states", "mask"}` as the layers of `mtlbook.layers.tagging` do.
        heads: by task, lowest first, from a level's states to the prediction, `(examples, labels)`
            or `(examples, labels, positions)`.
        labels: for each task whose predictions enter the levels above, how many labels it has.
        width: of a label embedding.
        shortcuts: whether x enters every level, or the lowest alone.
        vertical: whether the states of the level below enter.

    Attributes:
        embedding: makes x.
        levels: the encoders, lowest first.
        heads: by task.
        labels: by task ℓ, `(labels, width)`: uniform in ±√(6 / (labels + width)) at first.

    Raises:
        UsageError: for other numbers of stages than a first one and one for each head; for labels
            of a task that is none, or has no level above; for a level that nothing enters.

    Example:
        >>> model = JointManyTask(
        ...     lambda: [nn.Identity(), nn.Linear(3, 8), nn.Linear(8 + 3 + 2, 8)],
        ...     heads={"tag": nn.Linear(8, 5), "chunk": nn.Linear(8, 4)},
        ...     labels={"tag": 5},
        ...     width=2,
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(7, 3)).items()}
        {'tag': (7, 5), 'chunk': (7, 4)}
        >>> list(model.below("chunk"))
        ['heads.tag.weight', 'heads.tag.bias', 'levels.0.weight', 'levels.0.bias']
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        labels: Mapping[str, int] | None = None,
        width: int = 0,
        shortcuts: bool = True,
        vertical: bool = True,
    ) -> None:
        super().__init__()
        self.heads = named(heads)
        made = make(stages)
        if len(made) != 1 + len(self.heads):
            raise UsageError(
                f"stages() made {len(made)} stages for {len(self.heads)} tasks: make the embedding "
                f"and one encoder for each task, {1 + len(self.heads)} in all."
            )
        self.embedding, self.levels = made[0], nn.ModuleList(made[1:])
        self.shortcuts, self.vertical = shortcuts, vertical
        counts = dict(labels or {})
        names = list(self.heads)
        wrong = sorted(set(counts) - set(names[:-1]))
        if wrong:
            raise UsageError(
                f"labels names {wrong}, whose labels no level above could take: name some of "
                f"{names[:-1]}."
            )
        if counts and min(width, *counts.values()) < 1:
            raise UsageError(
                f"Label embeddings of width {width} for {counts} labels: give at least one of each."
            )
        if not (shortcuts or vertical or set(names[:1]) <= set(counts)) and len(names) > 1:
            raise UsageError(
                f"Nothing enters the level of {names[1]!r}: give it shortcuts, vertical "
                f"connections, or the labels of {names[0]!r}."
            )
        self.labels = nn.ParameterDict(
            {name: _uniform(counts[name], width) for name in names if name in counts}
        )

    def forward(self, inputs: Inputs, upto: str | None = None) -> Mapping[str, Tensor]:
        """Each task's prediction.

        Arguments:
            inputs: what the embedding takes.
            upto: the highest task that is asked for; the levels above it are not computed.
        """
        if upto is not None and upto not in self.heads:
            raise UsageError(f"There is no task {upto!r}: there are {list(self.heads)}.")
        embedded = self.embedding(inputs)
        x = _values(embedded)
        below: list[Tensor] = [x]
        known: list[Tensor] = []
        predictions: dict[str, Tensor] = {}
        for encoder, (name, head) in zip(self.levels, self.heads.items(), strict=True):
            states = encoder(_in_place_of(embedded, torch.cat(below, -1)))
            predictions[name] = head(states)
            if name == upto:
                break
            if name in self.labels:
                own = _like(expected_label(predictions[name], self.labels[name]), x)
                known = [own + sum(known)]
            below = [_values(states)] * self.vertical + [x] * self.shortcuts + known
        return predictions

    def below(self, task: str) -> dict[str, Tensor]:
        """θ_{<k}: the parameters, by name, that the levels under a task's level consist of.

        The embedding; encoders and heads of the lower tasks; the label embeddings that enter these
        levels. Those that enter the task's own level alone are not among them.
        """
        names = list(self.heads)
        if task not in names:
            raise UsageError(f"There is no task {task!r}: there are {names}.")
        place = names.index(task)
        parts = ["embedding", *[f"levels.{n}" for n in range(place)]]
        parts += [f"heads.{name}" for name in names[:place]]
        parts += [f"labels.{name}" for name in names[: max(place - 1, 0)]]
        return {
            name: values
            for name, values in self.named_parameters()
            if any(name == part or name.startswith(f"{part}.") for part in parts)
        }


def expected_label(
    prediction: Float[Tensor, "examples labels *positions"],
    embeddings: Float[Tensor, "known width"],
) -> Float[Tensor, "examples *positions width"]:
    """Σ_j p_j ℓ_j with p = softmax(prediction) over the labels (equation 2).

    Example:
        >>> sure = torch.tensor([[100.0, 0.0], [0.0, 0.0]])
        >>> expected_label(sure, torch.tensor([[1.0], [3.0]]))
        tensor([[1.],
                [2.]])
    """
    if prediction.shape[1] != len(embeddings):
        raise UsageError(
            f"A head gives {prediction.shape[1]} labels, and there are embeddings of "
            f"{len(embeddings)}: give labels the head's own number."
        )
    return prediction.softmax(1).movedim(1, -1) @ embeddings


@dataclass(frozen=True)
class SuccessiveRegularisation:
    """δ ‖θ_{<k} − θ′_{<k}‖² + λ ‖W‖², a `regulariser` for `fit` with the sampler `Passes`.

    W are the weight matrices of the levels up to the pass's own. The defaults are the paper's
    (appendix A).

    Attributes:
        delta: δ of embedding, encoders and label embeddings.
        classifiers: δ of the heads of lower tasks.
        decay: λ of the encoders.
        classifier_decay: λ of the heads.
    """

    delta: float = 1e-3
    classifiers: float = 1e-2
    decay: float = 1e-6
    classifier_decay: float = 1e-5

    def __post_init__(self) -> None:
        values = (self.delta, self.classifiers, self.decay, self.classifier_decay)
        if not all(0 <= value < inf for value in values):
            raise UsageError(
                f"The strengths of the penalties are {values}: give finite ones from 0 on; to hold "
                "lower levels fast, take steps by `anchored` with delta=inf."
            )

    def __call__(self, model: nn.Module, context: Pass) -> Float[Tensor, ""]:
        """The penalty of the task whose pass the step belongs to."""
        if not isinstance(model, JointManyTask) or len(context.tasks) != 1:
            raise UsageError(
                "Successive regularisation is for a JointManyTask in passes of one task each: "
                f"this step of a {type(model).__name__} is about {list(context.tasks)}."
            )
        return self.of_pass(model, context.earlier, context.tasks[0])

    def of_pass(
        self, model: JointManyTask, earlier: Mapping[str, Tensor], task: str
    ) -> Float[Tensor, ""]:
        """The same for any loop: `earlier` is θ′ by name, copied when the task's pass began."""
        lower = model.below(task)
        heads = {name: own for name, own in lower.items() if name.startswith("heads.")}
        rest = {name: own for name, own in lower.items() if name not in heads}
        place = list(model.heads).index(task)
        encoders = [own for level in model.levels[: place + 1] for own in level.parameters()]
        own_heads = list(model.heads.values())[: place + 1]
        return (
            self.delta * distance(rest, earlier)
            + self.classifiers * distance(heads, earlier)
            + self.decay * _squares(encoders)
            + self.classifier_decay * _squares([p for head in own_heads for p in head.parameters()])
        )


def distance(parameters: Mapping[str, Tensor], earlier: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """‖θ − θ′‖² over all parameters, 0 for none; no gradient reaches θ′.

    Example:
        >>> distance({"a": torch.tensor([1.0, 5.0])}, {"a": torch.tensor([1.0, 2.0])})
        tensor(9.)
    """
    moved = [(own - earlier[name].detach()).square().sum() for name, own in parameters.items()]
    return torch.stack(moved).sum() if moved else torch.zeros(())


def anchored(
    parameters: Mapping[str, Tensor], earlier: Mapping[str, Tensor], rate: float, delta: float
) -> dict[str, Tensor]:
    """(θ + 2ηδ θ′) / (1 + 2ηδ): the proximal step of η δ ‖θ − θ′‖² behind a gradient step.

    Stable for every δ, where a gradient step on the penalty itself needs 2ηδ < 2; δ = ∞ freezes.

    Example:
        >>> anchored({"a": torch.tensor([3.0])}, {"a": torch.tensor([1.0])}, rate=0.5, delta=1.0)
        {'a': tensor([2.])}
    """
    if rate < 0 or delta < 0:
        raise UsageError(f"A rate of {rate} and delta={delta}: give numbers from 0 on.")
    pull = 2 * rate * delta
    share = 1.0 if pull == inf else pull / (1 + pull)
    return {name: own.lerp(earlier[name], share) for name, own in parameters.items()}


def _uniform(labels: int, width: int) -> nn.Parameter:
    bound = (6 / (labels + width)) ** 0.5
    return nn.Parameter(torch.empty(labels, width).uniform_(-bound, bound))


def _values(features: Features) -> Tensor:
    return features if isinstance(features, Tensor) else features["states"]


def _in_place_of(features: Features, values: Tensor) -> Features:
    return values if isinstance(features, Tensor) else {**features, "states": values}


def _like(label: Tensor, x: Tensor) -> Tensor:
    """A whole example's label at each of its positions."""
    if label.ndim == x.ndim:
        return label
    return label.unsqueeze(1).expand(-1, x.shape[1], -1)


def _squares(parameters: Sequence[Tensor]) -> Tensor:
    """‖W‖² of the weight matrices among parameters: biases are left alone."""
    matrices = [own.square().sum() for own in parameters if own.ndim > 1]
    return torch.stack(matrices).sum() if matrices else torch.zeros(())
