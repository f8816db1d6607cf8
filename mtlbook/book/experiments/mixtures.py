"""Section 8.1: mixtures of experts against split networks with equally many parameters.

Everything has a tower of one hidden layer for each task, and below it experts of one layer (in PLE
of two, a level each) or a bottom of one layer. The mixture with a gate a task sets the budget, its
gates counted; all others but the single-task networks are made as wide as it allows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.book.experiments.cost import parameters
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.training import Trials, crossed
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.results import Fit
from mtlbook.training.selection import Selected, select

Build = Callable[..., nn.Module]
# What trains a contestant: build, trials and settings in, each seed's choice out.
Method = Callable[..., Selected]
Activation = Callable[[], nn.Module]

SHARED_BOTTOM, BEST_SPLIT, SINGLE = "shared bottom", "best split", "single-task"
DEPTHS = (1, 2)  # how many of the two hidden layers, bottom and tower, a split network shares


def tower(width: int, task: Task, units: int, activation: Activation = nn.Tanh) -> nn.Module:
    """A task's tower: one hidden layer and a linear output."""
    return nn.Sequential(nn.Linear(width, units), activation(), nn.Linear(units, task.outputs))


def mixture(
    data: MultiTaskData,
    _seed: int,
    *,
    width: int,
    units: int,
    experts: int = 4,
    multi_gate: bool = True,
    bias: bool = False,
    dropout: float = 0.0,
    activation: Activation = nn.Tanh,
) -> MixtureOfExperts:
    """Experts of one layer, with a gate a task or one for all.

    Arguments:
        data: whose tasks it is for.
        width: of each expert.
        units: of each tower.
        experts: how many.
        multi_gate: as in `MixtureOfExperts`, like `bias` and `dropout`.
        bias: as there.
        dropout: as there.
        activation: behind each hidden layer.
    """
    inputs = data.inputs.shape[1]
    return MixtureOfExperts(
        dense(inputs, width, activation=activation),
        {task.name: tower(width, task, units, activation) for task in data.tasks},
        inputs=inputs,
        experts=experts,
        multi_gate=multi_gate,
        bias=bias,
        dropout=dropout,
    )


def extraction(
    data: MultiTaskData,
    _seed: int,
    *,
    width: int,
    units: int,
    own: int = 1,
    shared: int = 2,
    levels: int = 1,
    activation: Activation = nn.Tanh,
) -> ProgressiveLayeredExtraction:
    """Levels of experts of one layer each, a task's own and shared ones; one level is CGC."""
    widths = [data.inputs.shape[1], *[width] * levels]
    return ProgressiveLayeredExtraction(
        dense(*widths, activation=activation),
        {task.name: tower(width, task, units, activation) for task in data.tasks},
        inputs=widths[:-1],
        own=own,
        shared=shared,
    )


def split_network(
    data: MultiTaskData,
    _seed: int,
    *,
    width: int,
    units: int,
    branch_at: int = 1,
    activation: Activation = nn.Tanh,
) -> HardSharing:
    """A bottom and towers of one hidden layer each; by default the bottom is shared."""
    stages = dense(data.inputs.shape[1], width, units, activation=activation)
    return hard_sharing(stages, data.tasks, units, branch_at=branch_at)


_NETWORKS: dict[str, Build] = {
    SINGLE: partial(split_network, branch_at=0),
    SHARED_BOTTOM: split_network,
    "OMoE": partial(mixture, multi_gate=False),
    "MMoE": mixture,
    "MMoE with bias": partial(mixture, bias=True),
    "CGC": extraction,
    "PLE": partial(extraction, levels=2),
}
NETWORKS = tuple(_NETWORKS)


def widest(build: Callable[[int], nn.Module], budget: int) -> int:
    """The largest width with which a network has no more parameters than the budget.

    Example:
        >>> widest(lambda width: nn.Linear(width, 1), budget=100)
        99
    """
    width = 1
    while parameters(build(width + 1)) <= budget:
        width += 1
    return width


@dataclass(frozen=True)
class Contest:
    """Networks of equally many parameters for some data.

    Attributes:
        example: one seed's data, whose inputs and tasks give the networks their sizes.
        width: of each expert of the mixture that sets the budget.
        units: of each tower.
        activation: behind each hidden layer.
    """

    example: MultiTaskData
    width: int = 8
    units: int = 4
    activation: Activation = nn.Tanh

    @property
    def budget(self) -> int:
        """The parameters of the mixture with a gate a task, its gates counted."""
        return parameters(mixture(self.example, 0, width=self.width, units=self.units))

    def build(self, name: str) -> Build:
        """What makes a network by its name, as wide as the budget allows.

        A single-task network is a shared bottom's for its task alone: all together have almost
        twice the parameters.
        """
        sized = partial(
            _NETWORKS[SHARED_BOTTOM if name == SINGLE else name],
            units=self.units,
            activation=self.activation,
        )
        width = widest(lambda width: sized(self.example, 0, width=width), self.budget)
        return partial(_NETWORKS[name], width=width, units=self.units, activation=self.activation)

    def networks(self, names: Iterable[str] = NETWORKS) -> dict[str, nn.Module]:
        """An untrained network of each name, to count its costs."""
        return {name: self.build(name)(self.example, 0) for name in names}

    def trained(self, method: Method, trials: Trials, names: Iterable[str]) -> dict[str, Selected]:
        """Each contestant, with all trials, and the best split, which has them at each depth.

        Arguments:
            method: trains the trials of one network for all seeds, as `Bench.method` does.
            trials: of each network.
            names: some of `NETWORKS`; with a shared bottom comes the best split.
        """
        found = {}
        for name in names:
            build = self.build(name)
            if name == SHARED_BOTTOM:
                splits = {f"{depth} shared": {"branch_at": depth} for depth in DEPTHS}
                found[BEST_SPLIT] = method(build, crossed(splits, trials))
                found[SHARED_BOTTOM] = _of_depth(found[BEST_SPLIT].fits)
            else:
                stopping = {"stopping": "each"} if name == SINGLE else {}
                found[name] = method(build, trials, **stopping)
        return found


def _of_depth(fits: Mapping[str, Fit]) -> Selected:
    """The choice among the trials that share the bottom and nothing else."""
    own = {name: fit for name, fit in fits.items() if name.startswith(f"{DEPTHS[0]} shared")}
    return select(own)


def relative(
    losses: Float[np.ndarray, "seeds tasks"], baseline: Float[np.ndarray, "seeds tasks"]
) -> Float[np.ndarray, " seeds"]:
    """Each task's loss over the baseline's mean, averaged over the tasks.

    Example:
        >>> relative(np.array([[1.0, 30.0], [3.0, 30.0]]), np.array([[1.0, 60.0], [3.0, 60.0]]))
        array([0.5, 1. ])
    """
    return (losses / baseline.mean(0)).mean(1)


def mean_gates(
    gates: Float[Tensor, "examples experts"], bins: Int[np.ndarray, " examples"], count: int
) -> Float[np.ndarray, "bins experts"]:
    """A gate's mean weights in each bin: the examples whose bin is 0, 1, …, count − 1.

    Example:
        >>> gates = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> mean_gates(gates, np.array([0, 1, 1]), count=2)
        array([[1.  , 0.  ],
               [0.25, 0.75]], dtype=float32)
    """
    places = [torch.from_numpy(bins == place) for place in range(count)]
    return torch.stack([gates[place].mean(0) for place in places]).numpy()


def moved_weight(means: Float[np.ndarray, "bins experts"]) -> Float[np.ndarray, " bins"]:
    """How much of a gate's mean weight lies on other experts in each bin than in the first.

    Half the sum of the absolute differences: 0 where the mixture is the first bin's, 1 where all
    the weight lies on other experts.

    Example:
        >>> moved_weight(np.array([[1.0, 0.0], [0.25, 0.75]]))
        array([0.  , 0.75])
    """
    return abs(means - means[0]).sum(1) / 2
