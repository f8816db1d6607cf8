r"""Section 6.8, sluice networks: columns whose subspaces are shared, and outputs mixed over layers.

Each task has a column of L layers. The units of a layer are divided into S subspaces, and behind it
all M·S subspaces of the M columns are mixed (Ruder, Bingel, Augenstein and Søgaard, 2019, section
"Learning layers and subspaces"; Ruder, 2017, section 6.8):

    g̃_i = Σ_j α_ij g_j        i, j: a task and a subspace, α of (M·S) × (M·S)

What the next layer of task t takes are its own mixtures, side by side: h̃_tl. Its head takes a
mixture of all layers:

    h̃_t = Σ_l β_tl h̃_tl

so that α learns what to share, and β at which layer a task is best predicted. A penalty keeps the
subspaces of a column apart:

    λ Σ_t Σ_l ‖G_tl,1ᵀ G_tl,2‖²_F

G stands for a subspace; the released code takes halves of an LSTM's matrices. Here it is a layer's
weights, a unit a column, each divided by its norm: the entries of G_1ᵀ G_2 are then cosines, which
no rescaling of a layer changes, and which are the correlations of what enters the units where what
the layer reads is white. `orthogonality` takes any matrix: of centred activations, a row an
example, it gives the sum of their squared correlations.

Fixed α and β give separate networks, hard sharing, cross-stitch, low supervision and
private-plus-shared networks: `mtlbook.architectures.sluice_special_cases`.

**Where it fails.** K columns are K networks in parameters and time. Nothing ties subspace 1 of one
column to subspace 1 of another, so what α shares depends on where training starts. The code that
was released with the paper computes something else: its reshape is column-major, so that its α
mixes units of one task with each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, check_apart, make, named


class Weights(nn.Module):
    """Trainable numbers, of which some may be held.

    Attributes:
        values: what is trained.
        free: where it counts; elsewhere `held` does.
        held: the other numbers, which no optimiser and no weight decay reaches.
    """

    values: Float[Tensor, "rows columns"]
    free: Bool[Tensor, "rows columns"]
    held: Float[Tensor, "rows columns"]

    def __init__(self, start: Float[Tensor, "rows columns"]) -> None:
        super().__init__()
        self.values = nn.Parameter(start.clone())
        self.register_buffer("free", torch.ones_like(start, dtype=torch.bool))
        self.register_buffer("held", start.clone())

    def forward(self) -> Float[Tensor, "rows columns"]:
        """The numbers that count."""
        return torch.where(self.free, self.values, self.held)

    @torch.no_grad()
    def set(self, new: Float[Tensor, "..."], free: Bool[Tensor, "..."] | bool = True) -> None:
        """Give all numbers new values, and say which of them go on learning."""
        if new.shape != self.values.shape:
            raise UsageError(
                f"The new weights have the shape {tuple(new.shape)}, and the model's have "
                f"{tuple(self.values.shape)}: a row for what takes, a column for what gives."
            )
        self.values.copy_(new)
        self.held.copy_(new)
        self.free.copy_(torch.as_tensor(free).expand_as(self.free))


class Sluice(nn.Module):
    """A column of stages for each task, α behind each stage, β and a head on top.

    Arguments:
        stages: makes the stages of one column, from the input on; called once a column, in the
            order of the heads. All stages give features of one shape, as β adds them up.
        heads: by task, from the mixture of a column's layers to the prediction.
        subspaces: S, into how many equal parts the units of each stage are divided.
        same: α before training, of each subspace for itself; the rest of each row's 1 is divided
            among the others. 1 / (M·S) is the paper's balanced start.
        last: β before training, of the last layer; the rest of 1 is divided among the others.
        axis: that of the units: 1 for dense and convolutional stages, -1 for sequences of features.

    Attributes:
        columns: by task, its stages: a plain network without α and β.
        units: behind each stage its α, as `Weights`.
        layers: β, as `Weights`.
        heads: by task.

    Raises:
        UsageError: for fewer than two heads; for stages that are no function, or whose number or
            layers do not fit; for no subspace.

    Example:
        >>> model = Sluice(
        ...     lambda: [nn.Sequential(nn.Linear(8, 6), nn.Tanh()), nn.Linear(6, 6)],
        ...     heads={"chunk": nn.Linear(6, 3), "pos": nn.Linear(6, 5)},
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(4, 8)).items()}
        {'chunk': (4, 3), 'pos': (4, 5)}
        >>> [tuple(alpha.shape) for alpha in model.alpha], tuple(model.beta.shape)
        ([(4, 4), (4, 4)], (2, 2))
        >>> model.layers.set(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), free=False)
        >>> model.beta[1].tolist()  # the auxiliary task is predicted from layer 1, for good
        [1.0, 0.0]
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        subspaces: int = 2,
        same: float = 0.9,
        last: float = 0.9,
        axis: int = 1,
    ) -> None:
        super().__init__()
        self.heads = named(heads)
        number = len(self.heads)
        if number < 2:
            raise UsageError("A sluice network joins columns: give heads for at least two tasks.")
        if subspaces < 1:
            raise UsageError(f"A layer has at least one subspace, not {subspaces}.")
        made = [make(stages) for _ in range(number)]
        check_apart(made)
        depth = len(made[0])
        if not depth:
            raise UsageError("A column needs at least one stage, whose subspaces α mixes.")
        self.columns = nn.ModuleDict(
            {name: nn.Sequential(*own) for name, own in zip(self.heads, made, strict=True)}
        )
        self.subspaces, self.axis = subspaces, axis
        parts = number * subspaces
        alpha = torch.full((parts, parts), (1 - same) / (parts - 1)).fill_diagonal_(same)
        beta = torch.full((number, depth), (1 - last) / max(depth - 1, 1))
        beta[:, -1] = last if depth > 1 else 1.0
        self.units = nn.ModuleList(Weights(alpha) for _ in range(depth))
        self.layers = Weights(beta)

    @property
    def alpha(self) -> tuple[Float[Tensor, "parts parts"], ...]:
        """Behind each stage its α: rows take, columns give, task by task, then by subspace."""
        return tuple(unit() for unit in self.units)

    @property
    def beta(self) -> Float[Tensor, "tasks stages"]:
        """What each task's head takes of each layer."""
        return self.layers()

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features = [inputs] * len(self.heads)
        behind = []
        for place, alpha in enumerate(self.alpha):
            stages = [column.get_submodule(str(place)) for column in self.columns.values()]
            computed = [stage(own) for stage, own in zip(stages, features, strict=True)]
            features = mix_subspaces(alpha, computed, self.subspaces, axis=self.axis)
            behind.append(torch.stack(features))
        _check_shapes(behind, "stages")
        of_layers = torch.stack(behind)
        # Weights of tasks and layers, in front of as many axes of length 1 as features have.
        weights = self.beta.T.reshape(*of_layers.shape[:2], *[1] * (of_layers.ndim - 2))
        mixtures = (weights * of_layers).sum(0).unbind()
        of_tasks = zip(self.heads.items(), mixtures, strict=True)
        return {name: head(own) for (name, head), own in of_tasks}

    def set_sharing(
        self,
        alpha: Sequence[Float[Tensor, "parts parts"]] | Float[Tensor, "stages parts parts"],
        beta: Float[Tensor, "tasks stages"],
        *,
        free: bool = False,
    ) -> None:
        """Give α and β values, such as those of a special case, and hold them unless `free`."""
        if len(alpha) != len(self.units):
            raise UsageError(
                f"There are {len(alpha)} α for {len(self.units)} stages: give each its own."
            )
        for unit, new in zip([*self.units, self.layers], [*alpha, beta], strict=True):
            assert isinstance(unit, Weights)
            unit.set(new, free)

    def orthogonality(self) -> Float[Tensor, ""]:
        """Σ ‖G_1ᵀ G_2‖²_F over columns, stages and pairs of subspaces, of normalised weights."""
        stages = [stage for column in self.columns.values() for stage in column.children()]
        found = [orthogonality(_weight(stage).flatten(1).T, self.subspaces) for stage in stages]
        return torch.stack(found).sum()


def mix_subspaces(
    alpha: Float[Tensor, "parts parts"],
    features: Sequence[Float[Tensor, "examples ..."]],
    subspaces: int,
    *,
    axis: int = 1,
) -> list[Float[Tensor, "examples ..."]]:
    """g̃_i = Σ_j α_ij g_j over all subspaces of all columns, and each column's side by side again.

    Example:
        >>> swap = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]])
        >>> mix_subspaces(swap, [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])], 2)
        [tensor([[1., 4.]]), tensor([[3., 2.]])]
    """
    _check_shapes(features, "columns")
    size = _size(features[0].shape[axis], subspaces)
    parts = [part for own in features for part in own.split(size, axis)]
    stacked = torch.stack(parts)
    # Under autocast features may be less precise than α.
    mixed = torch.tensordot(alpha.to(stacked.dtype), stacked, dims=1).unbind()
    starts = range(0, len(parts), subspaces)
    return [torch.cat(mixed[start : start + subspaces], axis) for start in starts]


def orthogonality(matrix: Float[Tensor, "rows units"], subspaces: int) -> Float[Tensor, ""]:
    """Σ ‖G_sᵀ G_s'‖²_F over pairs of subspaces: squared cosines between units of different ones.

    Arguments:
        matrix: a unit a column: the transposed weights of a layer, or its activations, a row an
            example (less their means for correlations).
        subspaces: into how many equal parts the units are divided.

    Example:
        >>> two_pairs = torch.tensor([[2.0, 0.0, 3.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        >>> orthogonality(two_pairs, 2)  # units 1 and 3 point alike, unit 4 is silent
        tensor(1.)
    """
    # A silent unit has no direction: its cosines are 0.
    unit = matrix / matrix.square().sum(0).clamp_min(torch.finfo(matrix.dtype).tiny).sqrt()
    groups = unit.T.unflatten(0, (subspaces, _size(matrix.shape[1], subspaces)))
    cosines = torch.einsum("sir,tjr->stij", groups, groups)
    return cosines.square().sum((2, 3)).triu(1).sum()


@dataclass(frozen=True)
class Orthogonality:
    """The penalty λ Σ ‖G_1ᵀ G_2‖²_F for `fit`: `Settings(regulariser=Orthogonality(0.1))`.

    In a loop of one's own: `loss = loss + 0.1 * model.orthogonality()`.

    Attributes:
        weight: λ.
    """

    weight: float

    def __call__(self, model: nn.Module, context: Any = None) -> Float[Tensor, ""]:  # noqa: ARG002
        """The penalty of one model, whatever the step."""
        if not isinstance(model, Sluice):
            raise UsageError(
                f"A {type(model).__name__} has no subspaces to keep apart: give a Sluice."
            )
        return self.weight * model.orthogonality()


def parameter_groups(
    named_parameters: Iterable[tuple[str, Tensor]], learning_rate: float, factor: float
) -> list[dict[str, Any]]:
    """The optimiser's groups: α and β with a learning rate of their own, and without weight decay.

    Arguments:
        named_parameters: of a `Sluice`, or of a model that contains one.
        learning_rate: of the columns and heads.
        factor: how many times as fast α and β learn.
    """
    weightings, others = [], []
    for name, values in named_parameters:
        # Of units.0.values, layers.values or, in a wrapper, model.layers.values.
        *_, first, second, last = ["", "", *name.split(".")]
        own = (
            last == "values"
            and "heads" not in name.split(".")
            and (second == "layers" or (first == "units" and second.isdigit()))
        )
        (weightings if own else others).append((name, values))
    if not weightings:
        raise UsageError("There is no α or β of a sluice network among these parameters.")
    return [
        {"params": others, "lr": learning_rate},
        {"params": weightings, "lr": factor * learning_rate, "weight_decay": 0.0},
    ]


def _weight(stage: nn.Module) -> Tensor:
    """The last matrix of weights of a stage: the one whose rows, or filters, are its units."""
    found = [own for own in stage.parameters() if own.ndim > 1]
    if not found:
        raise UsageError("A stage has no matrix of weights, so its subspaces cannot be kept apart.")
    return found[-1]


def _size(units: int, subspaces: int) -> int:
    if units % subspaces:
        raise UsageError(
            f"{units} units do not divide into {subspaces} equal subspaces: choose a multiple."
        )
    return units // subspaces


def _check_shapes(features: Sequence[Tensor], what: str) -> None:
    shapes = sorted({tuple(own.shape) for own in features})
    if len(shapes) > 1:
        raise UsageError(
            f"The {what} compute features of different shapes, {shapes}: a sluice network adds "
            "them up, so give it stages with equal outputs."
        )
