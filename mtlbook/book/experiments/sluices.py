"""Section 6.8: its contestants, what a trained sluice network shares, and the released code.

All networks of columns start from equal columns, so that the subspaces of one correspond to those
of another before the first step, as in section 6.3. Everyone has four trials of AdamW:

* *single-task networks* two learning rates times two weight decays; each task chooses and stops on
  its own;
* the *best split* two depths times the rates;
* *cross-stitch* and *sluice networks* two starts of α times the rates.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.architectures import sluice_special_cases as cases
from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.book.experiments.contestants import Bench
from mtlbook.book.experiments.networks import Stages, linear_head
from mtlbook.book.experiments.results import error_reduction, trained_network
from mtlbook.book.experiments.training import Trials, adamw_trials, crossed
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.statistics import Effect
from mtlbook.training.selection import Selected

RATES, DECAYS = (0.01, 0.03), (0.03, 0.3)
FOUR = adamw_trials(RATES, DECAYS)  # of single-task networks
TWO = adamw_trials(RATES, DECAYS[-1:])  # of each split, and of each start of α
STARTS = {f"α {same:g}": {"same": same} for same in (0.7, 0.5)}

# The contestants ----------------------------------------------------------------------------------


def contestants(
    bench: Bench,
    names: Iterable[str] = ("single-task", "best split", "cross-stitch", "sluice"),
) -> dict[str, Selected]:
    """Some contestants, the trials of each chosen for each seed."""
    train = {
        "single-task": partial(bench.single_task, FOUR),
        "best split": partial(bench.best_split, TWO),
        "cross-stitch": partial(of_columns, bench, CrossStitch),
        "sluice": partial(of_columns, bench, Sluice),
    }
    return {name: train[name]() for name in names}


def of_columns(
    bench: Bench,
    kind: type[Sluice] | type[CrossStitch],
    trials: Trials | None = None,
    **settings: Any,
) -> Selected:
    """Networks of columns; by default with the trials of a contestant."""
    build = partial(network, kind=kind, stages=bench.stages, width=bench.width)
    return bench.method(build, crossed(STARTS, TWO) if trials is None else trials, **settings)


def network(
    data: MultiTaskData,
    _seed: int,
    *,
    kind: type[Sluice] | type[CrossStitch],
    stages: Stages,
    width: int,
    same: float = 0.5,
) -> nn.Module:
    """Equal columns with linear heads."""
    heads = {task.name: linear_head(width, task) for task in data.tasks}
    return kind(from_one_start(stages), heads, same=same)


def held(
    data: MultiTaskData, seed: int, *, stages: Stages, width: int, alpha: bool = False
) -> nn.Module:
    """A sluice network whose heads take the last layer, and whose α may be held, too.

    Arguments:
        data: whose tasks are learnt.
        seed: what every `build` is given.
        stages: two, of one column.
        width: of the last of them.
        alpha: whether α is held where subspace 1 is shared by all and subspace 2 is private.
    """
    model = network(data, seed, kind=Sluice, stages=stages, width=width)
    assert isinstance(model, Sluice)
    pattern = cases.private_and_shared(len(model.heads), len(model.units))
    model.layers.set(pattern.beta, free=False)
    if alpha:
        model.set_sharing(*pattern)
    return model


def from_one_start(stages: Stages) -> Stages:
    """Stages for one network of columns: those of the first column, and copies of them.

    Example:
        >>> make = from_one_start(lambda: [torch.nn.Linear(2, 2)])
        >>> torch.equal(make()[0].weight, make()[0].weight)
        True
    """
    first = list(stages())
    return lambda: deepcopy(first)


# The data -----------------------------------------------------------------------------------------


def with_shuffled(data: MultiTaskData, seed: int, tasks: Sequence[str]) -> MultiTaskData:
    """The same data, where the labels of some tasks belong to other rows that carry their label."""
    targets = dict(data.targets)
    for name in tasks:
        rows = data.labelled[name].nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=generator(seed, "shuffled", name))
        targets[name] = targets[name].clone()
        targets[name][rows] = data.targets[name][rows[order]]
    return MultiTaskData.partial(data.tasks, data.inputs, targets, data.labelled)


# What is shared -----------------------------------------------------------------------------------


def given_across(
    alpha: Float[Tensor, "parts parts"], subspaces: int
) -> Float[Tensor, "tasks subspaces"]:
    """Of what each subspace gives (Σ|α| over all that take), the share that other tasks take.

    Example:
        >>> alpha = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
        >>> given_across(alpha, 2)  # A's first subspace gives three quarters to task B
        tensor([[0.7500, 0.0000],
                [0.0000, 0.0000]])
    """
    tasks = len(alpha) // subspaces
    sizes = alpha.abs().view(tasks, subspaces, tasks, subspaces).sum(1)  # takes, gives, of what
    given = sizes.sum(0)
    # A subspace that gives nothing gives nothing to others.
    return (given - sizes.diagonal().T) / given.clamp_min(torch.finfo(alpha.dtype).tiny)


def explained(
    units: Float[Tensor, "rows units"], features: Float[Tensor, "rows features"]
) -> float:
    """R² of the least-squares prediction of features from units, the mean over the features.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> round(explained(x, torch.cat([2 * x + 1, (x - 1) ** 2], 1)), 6)
        0.5
    """
    units, features = units - units.mean(0), features - features.mean(0)
    left = features - units @ torch.linalg.lstsq(units, features).solution
    return float((1 - left.square().sum(0) / features.square().sum(0)).mean())


def ordered_alphas(
    trained: Selected, features: Mapping[int, tuple[Tensor, Mapping[str, Sequence[Tensor]]]]
) -> Float[Tensor, "seeds layers parts parts"]:
    """Each seed's α behind each layer, as `by_relevance` orders them.

    Arguments:
        trained: sluice networks.
        features: by seed, inputs and the true features on them, by task and layer.
    """
    found = []
    for seed, own in features.items():
        model = trained_network(trained, seed)
        assert isinstance(model, Sluice)
        found.append(torch.stack(by_relevance(model, *own)))
    return torch.stack(found)


def by_relevance(
    model: Sluice,
    inputs: Float[Tensor, "rows inputs"],
    features: Mapping[str, Sequence[Float[Tensor, "rows features"]]],
) -> list[Float[Tensor, "parts parts"]]:
    """Each layer's α, with the subspaces of a column in the order of their use for other tasks.

    First comes the one that best predicts the other tasks' true features of that layer.

    Arguments:
        model: a trained network.
        inputs: on which the units and the features are compared.
        features: by task, its true features of each layer on these inputs.
    """
    ordered = []
    computed = computed_features(model, inputs)
    for place, alpha in enumerate(model.alpha):
        order: list[int] = []
        for task in model.heads:
            others = torch.cat([own[place] for name, own in features.items() if name != task], 1)
            parts = computed[task][place].chunk(model.subspaces, 1)
            found = [explained(part, others) for part in parts]
            order += [
                len(order) // model.subspaces * model.subspaces + part for part in ranked(found)
            ]
        ordered.append(alpha.detach()[order][:, order])
    return ordered


def shares_given(
    alphas: Float[Tensor, "seeds layers parts parts"], subspaces: int = 2
) -> Float[Tensor, "subspaces seeds"]:
    """What subspace 1, 2, … gives to other tasks, the mean over columns and layers, by seed."""
    shares = [
        torch.stack([given_across(own, subspaces).mean(0) for own in of_seed]).mean(0)
        for of_seed in alphas
    ]
    return torch.stack(shares, dim=1)


def ranked(values: Sequence[float]) -> list[int]:
    """The places of some values, from the largest on.

    Example:
        >>> ranked([0.2, 0.9, 0.5])
        [1, 2, 0]
    """
    return sorted(range(len(values)), key=lambda place: -values[place])


def computed_features(
    model: Sluice, inputs: Float[Tensor, "rows inputs"]
) -> dict[str, list[Float[Tensor, "rows units"]]]:
    """What each column's stages computed on some inputs, in front of α."""
    found: dict[str, list[Tensor]] = {task: [] for task in model.heads}
    hooks = [
        stage.register_forward_hook(lambda _stage, _inputs, made, own=own: own.append(made))
        for task, own in found.items()
        for stage in model.columns.get_submodule(task).children()
    ]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return found


def reductions(
    losses: Mapping[str, Float[np.ndarray, "seeds tasks"]],
    methods: Iterable[str],
    tasks: Sequence[str],
    baseline: str = "single-task",
) -> dict[tuple[str, str], Effect]:
    """By task and method the reduction of the loss against a baseline, %; first over all tasks.

    Over all tasks each loss is relative to the baseline's mean.
    """
    relative = {name: own / losses[baseline].mean(0) for name, own in losses.items()}
    columns = {"all tasks": list(range(len(tasks)))}
    columns |= {f"task {name}": [place] for place, name in enumerate(tasks)}
    return {
        (task, method): error_reduction(*(relative[o][:, own].mean(1) for o in (method, baseline)))
        for task, own in columns.items()
        for method in methods
    }


# The older networks -------------------------------------------------------------------------------


def hard_sharing_of(model: Sluice, stages: Stages, branch_at: int) -> HardSharing:
    """Hard sharing with the weights of a sluice network: its trunk is column 1's."""
    columns = [list(column.children()) for column in model.columns.values()]
    own = [stage for column in columns for stage in column[branch_at:]]
    older = HardSharing(stages, deepcopy(dict(model.heads.items())), branch_at=branch_at)
    _take([*older.trunk, *_children(older.branches)], [*columns[0][:branch_at], *own])
    return older


def cross_stitch_of(model: Sluice, stages: Stages, units: Sequence[Tensor]) -> CrossStitch:
    """A cross-stitch network with the weights of a sluice network, and units."""
    older = CrossStitch(stages, deepcopy(dict(model.heads.items())))
    _take(_children(older.columns), _children(model.columns))
    for own, new in zip(older.mixing, units, strict=True):
        own.data.copy_(new)
    return older


def low_supervision_of(model: Sluice, stages: Stages, at: Mapping[str, int]) -> LowSupervision:
    """Low supervision with the weights of a sluice network: its layers are column 1's."""
    older = LowSupervision(stages, deepcopy(dict(model.heads.items())), at=at)
    _take(list(older.layers), _children(model.columns)[: len(older.layers)])
    return older


def largest_difference(first: nn.Module, second: nn.Module, inputs: Tensor) -> float:
    """Between the predictions of two networks, in float64."""
    with torch.no_grad():
        found, expected = (deepcopy(own).double()(inputs.double()) for own in (first, second))
    return max(float((found[name] - expected[name]).abs().max()) for name in found)


def _children(columns: nn.ModuleDict) -> list[nn.Module]:
    return [stage for column in columns.values() for stage in column.children()]


def _take(older: Sequence[nn.Module], stages: Sequence[nn.Module]) -> None:
    for own, new in zip(older, stages, strict=True):
        own.load_state_dict(new.state_dict())


class PrivateAndShared(nn.Module):
    """A shared trunk and private ones that read both, with the weights of a sluice network.

    The shared trunk's layers are the first subspace of column 1, where it reads itself.
    """

    def __init__(self, model: Sluice, units: int) -> None:
        super().__init__()
        self.columns, self.heads = model.columns, model.heads
        self.size = units // model.subspaces

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> dict[str, Tensor]:
        """Each task's prediction."""
        columns = {name: list(column.children()) for name, column in self.columns.items()}
        shared, private = inputs, dict.fromkeys(columns, inputs[:, :0])
        for place, first in enumerate(next(iter(columns.values()))):
            # What column 1 computes where its private units are silent.
            silent = shared.new_zeros(
                len(inputs), next(first.parameters()).shape[1] - shared.shape[1]
            )
            new_shared = first(torch.cat([shared, silent], 1))[:, : self.size]
            private = {
                name: columns[name][place](torch.cat([shared, own], 1))[:, self.size :]
                for name, own in private.items()
            }
            shared = new_shared
        return {
            name: head(torch.cat([shared, private[name]], 1)) for name, head in self.heads.items()
        }


# The released code --------------------------------------------------------------------------------


def released_mixture(
    alpha: Float[Tensor, "parts parts"], states: Sequence[Float[Tensor, " units"]]
) -> Float[Tensor, "tasks units"]:
    """What the code that was released with the paper makes of a token's states, a row a task.

    It concatenates the states, a column a task, and reshapes them to a row a subspace, multiplies
    with α, and reshapes back. Both reshapes take entries column by column, as DyNet's do; the code
    would need them row by row.
    """
    columns = torch.stack(list(states), 1)
    return _column_major(alpha @ _column_major(columns, len(alpha)), len(states))


def _column_major(matrix: Float[Tensor, "..."], rows: int) -> Float[Tensor, "rows columns"]:
    """A matrix of the same entries, read and filled column by column."""
    return matrix.T.reshape(-1, rows).T
