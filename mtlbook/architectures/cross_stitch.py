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
small, and its columns start from networks that were trained for one task each: `start_from` copies
such a network into a column before the training, in `fit(initialise=...)`.

**Where it fails.** K columns are K networks in parameters and time: compare with an ensemble of as
many networks, not with one. At 1,000 times the learning rate the paper's α diverged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.columns import EXAMPLES_LAST, Columns
from mtlbook.errors import UsageError


class CrossStitch(nn.Module):
    """A column of stages for each task, a cross-stitch unit behind each stage, a head on top.

    All columns compute a stage in one batched program where their layers agree (`Columns`).

    Arguments:
        stages: makes the stages of one column, from the input on; called once a column.
        heads: by task, from the last stage's features to the prediction.
        same: α_ii before training; the rest of each row's 1 is divided among the other columns.
        channels: for a unit for each channel, how many channels (axis 1) each stage gives; None
            for one unit a layer.

    Attributes:
        columns: at each depth the stages of all columns, their parameters stacked in the order of
            the heads.
        mixing: behind each stage its α, `(columns, columns)`, or `(columns, columns, channels)`;
            the first axis is the column that takes, the second the column that gives, both in the
            order of the heads.

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
        >>> optimiser = torch.optim.SGD(parameter_groups(model.named_parameters(), 1e-3))
    """

    def __init__(
        self,
        stages: Callable[[], Sequence[nn.Module]],
        heads: Mapping[str, nn.Module],
        same: float = 0.9,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(heads) < 2:
            raise UsageError("Cross-stitch units join columns: give heads for at least two tasks.")
        made = [list(stages()) for _ in heads]
        depth = len(made[0])
        if not depth or any(len(own) != depth for own in made):
            raise UsageError(
                f"The columns have {[len(own) for own in made]} stages: stages() must make the "
                "same number, at least one, at each call."
            )
        self.columns = nn.ModuleList(Columns(level) for level in zip(*made, strict=True))
        self.heads = nn.ModuleDict(heads)
        if channels is not None and len(channels) != depth:
            raise UsageError(
                f"There are {len(channels)} numbers of channels for {depth} stages: give one "
                "for each stage."
            )
        number = len(heads)
        alpha = torch.full((number, number), (1 - same) / (number - 1))
        alpha.fill_diagonal_(same)
        self.mixing = nn.ParameterList(
            alpha.clone() if channels is None else alpha.unsqueeze(-1).repeat(1, 1, channels[place])
            for place in range(depth)
        )

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features = inputs.expand(len(self.heads), *inputs.shape)
        for stage, alpha in zip(self.columns, self.mixing, strict=True):
            features = cross_stitch(alpha, stage(features))
        if _examples_last(features):
            # Apart in the order of memory, in which their gradients are then put together.
            features = [own.mT for own in features.mT]
        of_tasks = zip(self.heads.items(), features, strict=True)
        return {name: head(own) for (name, head), own in of_tasks}

    def column(self, task: str) -> nn.Sequential:
        """A copy of a task's stages with their present weights, without units: a plain network."""
        number = self._number(task)
        levels = (level for level in self.columns if isinstance(level, Columns))
        return nn.Sequential(*(level.column(number) for level in levels))

    def start_from(self, task: str, stages: Iterable[nn.Module], head: nn.Module) -> None:
        """Copy the weights of a network that was trained for a task into its column and head.

        Arguments:
            task: whose column it is.
            stages: of the trained network, as many as a column has.
            head: of the trained network.
        """
        number = self._number(task)
        for level, stage in zip(self.columns, stages, strict=True):
            assert isinstance(level, Columns)
            level.load(number, stage.state_dict())
        self.heads[task].load_state_dict(head.state_dict())

    def _number(self, task: str) -> int:
        if task not in self.heads:
            raise UsageError(f"There is no column for {task!r}: choose among {list(self.heads)}.")
        return list(self.heads).index(task)


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
    if alpha.ndim == 3 and alpha.shape[2] != features.shape[2]:
        raise UsageError(
            f"A cross-stitch unit for {alpha.shape[2]} channels stands behind a stage that gives "
            f"{features.shape[2]}: name the stage's own number in channels."
        )
    if _examples_last(features):
        return _mixed(alpha, features.mT, channels=1).mT
    if alpha.ndim == 3 and features.ndim == 3:
        # Of two or three columns, sums are faster than many small matrix products.
        return (alpha.unsqueeze(2) * features).sum(1)
    return _mixed(alpha, features, channels=2)


def _examples_last(features: Tensor) -> bool:
    """Whether features are those that `Columns` leaves in memory as (columns, channels, examples).

    Nothing but speed depends on it.
    """
    return features.ndim == 3 and len(features) >= EXAMPLES_LAST


def _mixed(alpha: Tensor, features: Tensor, channels: int) -> Tensor:
    """x̃_i = Σ_j α_ij x_j as matrix products; `channels` is the axis of the features' channels.

    They copy no features whose order in memory is that of their axes.
    """
    if alpha.ndim == 2:
        return torch.mm(alpha, features.flatten(1)).view(features.shape)
    giving = features.movedim(0, channels)  # (..., channels, columns, ...)
    taking = torch.matmul(alpha.movedim(2, 0).contiguous(), giving.flatten(channels + 1))
    return taking.view(giving.shape).movedim(channels, 0)


def parameter_groups(
    named_parameters: Iterable[tuple[str, Tensor]], learning_rate: float, factor: float = 100.0
) -> list[dict[str, Any]]:
    """The optimiser's groups: α with its own, larger learning rate, behind all other parameters.

    Usable as `torch.optim.SGD(parameter_groups(model.named_parameters(), 1e-3))` and as
    `fit(optimiser=lambda named: torch.optim.SGD(parameter_groups(named, 1e-3)))`.

    Arguments:
        named_parameters: of a `CrossStitch`, or of a model that contains one.
        learning_rate: of the columns and heads.
        factor: how many times as fast α learns.
    """
    named = list(named_parameters)
    mixing = [(name, values) for name, values in named if "mixing" in name.split(".")]
    others = [(name, values) for name, values in named if "mixing" not in name.split(".")]
    if not mixing:
        raise UsageError("There is no cross-stitch unit (mixing) among these parameters.")
    return [
        {"params": others, "lr": learning_rate},
        {"params": mixing, "lr": factor * learning_rate},
    ]
