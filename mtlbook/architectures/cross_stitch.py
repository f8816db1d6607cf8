r"""Section 6.3, cross-stitch networks: a column for each task, whose layers are learnt mixtures.

Behind each stage a cross-stitch unit mixes what the K columns computed, x_j, into what the next
stage of each column takes, x̃_i (Misra, Shrivastava, Gupta and Hebert, 2016, equation 1; Ruder,
2017, section 6.3):

    x̃_i = Σ_j α_ij x_j

with one α for a whole layer or one for each of its channels. α = I gives separate networks, equal
rows give all columns the same input, and training finds what lies between. α has no constraint and
no penalty. It starts from α_ii = 0.9 and, so that each row sums to 1, (1 − 0.9) / (K − 1)
elsewhere: the paper's (0.9, 0.1) for its two columns.

The paper's α learns 100 times as fast as the rest (`parameter_groups`), because its gradients are
small, and its columns start from networks that were trained for one task each: a column is a plain
`nn.Sequential` of its stages, which takes such a network's state dict.

**Where it fails.** K columns are K networks in parameters and time: compare with an ensemble of as
many networks, not with one. At 1,000 times the learning rate the paper's α diverged.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, check_apart, make, named


class CrossStitch(nn.Module):
    """A column of stages for each task, a cross-stitch unit behind each stage, a head on top.

    Arguments:
        stages: makes the stages of one column, from the input on; called once a column, in the
            order of the heads. The columns may differ in layers, but not in the shapes between.
        heads: by task, from the last stage's features to the prediction.
        same: α_ii before training; the rest of each row's 1 is divided among the other columns.
        channels: for a unit for each channel, how many channels (axis 1) each stage gives; None
            for one unit a layer.

    Attributes:
        columns: by task, its stages: a plain network without units.
        mixing: behind each stage its α, `(columns, columns)`, or `(columns, columns, channels)`;
            the first axis is the column that takes, the second the column that gives, both in the
            order of the heads.
        heads: by task.

    Raises:
        UsageError: for fewer than two heads; for stages that are no function, or whose number or
            layers do not fit; for other numbers of channels than stages.

    Example:
        >>> model = CrossStitch(
        ...     lambda: [nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 4)],
        ...     heads={"segments": nn.Linear(4, 3), "normals": nn.Linear(4, 2)},
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(5, 8)).items()}
        {'segments': (5, 3), 'normals': (5, 2)}
        >>> model.mixing[0].detach()
        tensor([[0.9000, 0.1000],
                [0.1000, 0.9000]])
        >>> trained = nn.Sequential(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 4))
        >>> model.columns["normals"].load_state_dict(trained.state_dict())
        <All keys matched successfully>
        >>> optimiser = torch.optim.SGD(parameter_groups(model.named_parameters(), 1e-3))
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        same: float = 0.9,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.heads = named(heads)
        number = len(self.heads)
        if number < 2:
            raise UsageError("Cross-stitch units join columns: give heads for at least two tasks.")
        made = [make(stages) for _ in range(number)]
        check_apart(made)
        depth = len(made[0])
        if not depth:
            raise UsageError("A column needs at least one stage, behind which a unit mixes.")
        if channels is not None and len(channels) != depth:
            raise UsageError(
                f"There are {len(channels)} numbers of channels for {depth} stages: give one "
                "for each stage."
            )
        self.columns = nn.ModuleDict(
            {name: nn.Sequential(*own) for name, own in zip(self.heads, made, strict=True)}
        )
        alpha = torch.full((number, number), (1 - same) / (number - 1))
        alpha.fill_diagonal_(same)
        self.mixing = nn.ParameterList(
            alpha.clone() if channels is None else alpha.unsqueeze(-1).repeat(1, 1, channels[place])
            for place in range(depth)
        )

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features = [inputs] * len(self.heads)
        for place, alpha in enumerate(self.mixing):
            stages = [column.get_submodule(str(place)) for column in self.columns.values()]
            computed = [stage(own) for stage, own in zip(stages, features, strict=True)]
            features = cross_stitch(alpha, _stacked(computed)).unbind()
        of_tasks = zip(self.heads.items(), features, strict=True)
        return {name: head(own) for (name, head), own in of_tasks}


def cross_stitch(
    alpha: Float[Tensor, "columns columns *channels"],
    features: Float[Tensor, "columns examples ..."],
) -> Float[Tensor, "columns examples ..."]:
    """x̃_i = Σ_j α_ij x_j, for the whole layer or channel by channel (axis 1 of the examples).

    Example:
        >>> alpha = torch.tensor([[0.9, 0.1], [0.0, 1.0]])
        >>> cross_stitch(alpha, torch.tensor([[[10.0]], [[20.0]]])).flatten()
        tensor([11., 20.])
    """
    if alpha.ndim == 2:
        # Under autocast features may be less precise than α.
        return torch.tensordot(alpha.to(features.dtype), features, dims=1)
    if alpha.shape[2] != features.shape[2]:
        raise UsageError(
            f"A cross-stitch unit for {alpha.shape[2]} channels stands behind a stage that gives "
            f"{features.shape[2]}: name the stage's own number in channels."
        )
    # The sum as it stands: einsum("ijc,jn...->in...") takes twice as long for dense layers.
    places = [1] * (features.ndim - 3)
    return (alpha.view(*alpha.shape[:2], 1, -1, *places) * features).sum(1)


def _stacked(computed: Sequence[Tensor]) -> Tensor:
    shapes = [tuple(own.shape[1:]) for own in computed]
    if len(set(shapes)) > 1:
        raise UsageError(
            f"The columns compute features of different shapes, {shapes}: give them stages with "
            "equal outputs."
        )
    return torch.stack(list(computed))


def parameter_groups(
    named_parameters: Iterable[tuple[str, Tensor]], learning_rate: float, factor: float = 100.0
) -> list[dict[str, Any]]:
    """The optimiser's groups: α with its own, larger learning rate, behind all other parameters.

    Usable as `torch.optim.SGD(parameter_groups(model.named_parameters(), 1e-3))` and as
    `Settings(optimiser=lambda named: torch.optim.SGD(parameter_groups(named, 1e-3)))`.

    Arguments:
        named_parameters: of a `CrossStitch`, or of a model that contains one.
        learning_rate: of the columns and heads.
        factor: how many times as fast α learns.
    """
    mixing, others = [], []
    for name, values in named_parameters:
        # Of mixing.0 or model.mixing.0, and not of a head for a task that is called mixing.
        *_, owner, last = ["", *name.split(".")]
        (mixing if owner == "mixing" and last.isdigit() else others).append((name, values))
    if not mixing:
        raise UsageError("There is no cross-stitch unit (mixing) among these parameters.")
    return [
        {"params": others, "lr": learning_rate},
        {"params": mixing, "lr": factor * learning_rate},
    ]
