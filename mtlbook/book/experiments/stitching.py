"""Section 6.3: columns with cross-stitch units against single-task networks and every split.

Everyone starts from the same pre-trained layers, as both columns of Misra et al. (2016) start from
one network, so that the channels of the columns correspond. Everyone takes the same number of steps
by gradient descent with momentum 0.9, and has six trials, of which validation data choose one for
each seed:

* *single-task* networks choose between two learning rates, then go on from there with four smaller
  ones; each task chooses and stops by its own validation loss;
* *cross-stitch* goes on from the same single-task networks with a unit for each channel behind each
  stage: two initialisations of α times two learning rates of α;
* each *split*, the last of which is hard sharing, has three learning rates for all its steps, and
  the *best split* is chosen among all depths and rates: with two stages these are six.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mtlbook.architectures.cross_stitch import CrossStitch, parameter_groups
from mtlbook.book.experiments.networks import Stages, hard_sharing, linear_head
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.fit import Data
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select

FIRST_RATES = (0.03, 0.1)
MORE_RATES = (0.002, 0.005, 0.01, 0.02)
STITCH_RATE, SAME, FACTORS = 0.005, (0.9, 0.5), (1.0, 10.0)
SPLIT_RATES = (0.02, 0.05, 0.1)
SOURCE_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Two tasks, a source task for pre-training, and the columns of the networks for them.

    Attributes:
        data: one data set, or a function from a seed to its data.
        split: how its rows are divided, and which tasks have few labels.
        tasks: the two tasks.
        source: the task on which all columns are pre-trained.
        stages: makes the hidden layers of one column, from the input on.
        width: channels of each of them.
        steps: of the pre-training, and of the first training.
        more_steps: of the second training, with units or without.
        batch: rows of each task a step.
    """

    data: Data
    split: Holdout
    tasks: tuple[str, str]
    source: str
    stages: Stages
    width: int
    steps: int = 300
    more_steps: int = 120
    batch: int = 32

    @property
    def depth(self) -> int:
        """How many stages a column has."""
        return len(self.stages())


@dataclass(frozen=True)
class Start:
    """Where the second training starts: pre-trained layers, and networks trained from there."""

    pretrained: Selected
    networks: Selected


def single_task(page: Page, columns: Columns) -> Start:
    """Pre-train on the source task, and from there one network for each of the two tasks."""
    source = {"tasks": [columns.source], "stopping": columns.source}
    pretrained = select(
        _search(page, columns, _split_network, _descents(SOURCE_RATE), shared=0, **source)
    )
    networks = _search(
        page,
        columns,
        _split_network,
        _descents(*FIRST_RATES),
        shared=0,
        stopping="each",
        start=partial(_from_source, pretrained, columns.source),
    )
    return Start(pretrained, select(networks, each_task=True))


def trained_on(page: Page, columns: Columns, start: Start) -> Selected:
    """The single-task networks after the second training."""
    networks = _search(
        page,
        columns,
        _split_network,
        _descents(*MORE_RATES),
        shared=0,
        stopping="each",
        steps=columns.more_steps,
        start=partial(_from_single_task, start.networks, "branches"),
    )
    return select(networks, each_task=True)


def splits(page: Page, columns: Columns, start: Start) -> dict[str, Selected]:
    """A network that is split after each stage, hard sharing, and the best of them."""
    own, every = {}, {}
    for shared in range(1, columns.depth + 1):
        found = _search(
            page,
            columns,
            _split_network,
            _descents(*SPLIT_RATES),
            shared=shared,
            steps=columns.steps + columns.more_steps,
            start=partial(_from_source, start.pretrained, columns.source),
        )
        name = "hard sharing" if shared == columns.depth else f"split after {shared}"
        own[name] = select(found)
        every |= {f"{name}, {rate}": fit for rate, fit in found.items()}
    return own | {"best split": select(every)}


def stitched(page: Page, columns: Columns, start: Start, *, permuted: bool = False) -> Selected:
    """Cross-stitch networks that go on from the single-task networks.

    Arguments:
        page: whose seeds and device are used.
        columns: the tasks and their networks.
        start: the single-task networks.
        permuted: whether the second column's channels are permuted first, stage by stage with all
            that reads them: the column computes what it did, and no channel corresponds.
    """

    def begin(model: nn.Module, seed: int) -> None:
        _from_single_task(start.networks, "columns", model, seed)
        if permuted:
            _permute(model, columns.tasks[1], seed)

    found: dict[str, Fit] = {}
    for same in SAME:
        trials = {
            f"α {same:g}, {factor:g} times as fast": {
                "optimiser": partial(_descent_with_units, rate=STITCH_RATE, factor=factor)
            }
            for factor in FACTORS
        }
        own = {"same": same, "steps": columns.more_steps, "start": begin}
        found |= _search(page, columns, _stitched_network, trials, **own)
    return select(found)


def _search(
    page: Page,
    columns: Columns,
    build: Callable[..., nn.Module],
    trials: dict[str, dict[str, Any]],
    **settings: Any,
) -> dict[str, Fit]:
    common = {
        "columns": columns,
        "tasks": list(columns.tasks),
        "split": columns.split,
        "sampler": Balanced(columns.batch),
        "steps": columns.steps,
        "validate_every": 25,
        "evaluate_on": ["validation", "test"],
    }
    return search(page, build, columns.data, trials, **common | settings)


def _split_network(
    data: MultiTaskData,
    _seed: int,
    columns: Columns,
    shared: int,
) -> HardSharing:
    """One network that shares its first stages; with none, single-task networks."""
    return hard_sharing(columns.stages, data.tasks, columns.width, branch_at=shared)


def _stitched_network(
    data: MultiTaskData, _seed: int, columns: Columns, same: float
) -> CrossStitch:
    """A column a task, with a unit for each channel behind each stage."""
    heads = {task.name: linear_head(columns.width, task) for task in data.tasks}
    channels = [columns.width] * columns.depth
    return CrossStitch(columns.stages, heads, same=same, channels=channels)


def _from_source(pretrained: Selected, source: str, model: nn.Module, seed: int) -> None:
    """Give the trunk and every branch of a network the pre-trained stages."""
    stages = trained_network(pretrained, seed, source).get_submodule(f"branches.{source}")
    assert isinstance(stages, nn.Sequential)
    assert isinstance(model, HardSharing)
    for branch in model.branches.values():
        assert isinstance(branch, nn.Sequential)
        for own, stage in zip([*model.trunk, *branch], stages, strict=True):
            own.load_state_dict(stage.state_dict())


def _from_single_task(networks: Selected, part: str, model: nn.Module, seed: int) -> None:
    """Give a network's branches or columns, and its heads, those of single-task networks."""
    for task in networks.choices.columns:
        source = trained_network(networks, seed, task)
        for given, taken in ((f"branches.{task}", f"{part}.{task}"), (f"heads.{task}",) * 2):
            weights = source.get_submodule(given).state_dict()
            model.get_submodule(taken).load_state_dict(weights)


def _permute(model: nn.Module, task: str, seed: int) -> None:
    """Permute a column's channels, stage by stage, and the inputs of what reads them."""
    column = [
        *model.get_submodule(f"columns.{task}").modules(),
        model.get_submodule(f"heads.{task}"),
    ]
    layers = [layer for layer in column if isinstance(layer, nn.Linear)]
    source = generator(seed, "permuted channels")
    with torch.no_grad():
        for below, above in pairwise(layers):
            order = torch.randperm(below.out_features, generator=source)
            below.weight.copy_(below.weight[order])
            below.bias.copy_(below.bias[order])
            above.weight.copy_(above.weight[:, order])


def _descents(*rates: float) -> dict[str, dict[str, Any]]:
    return {f"rate {rate:g}": {"optimiser": partial(_descent, rate=rate)} for rate in rates}


def _descent(named: list[tuple[str, Tensor]], rate: float) -> torch.optim.SGD:
    return torch.optim.SGD([values for _, values in named], lr=rate, momentum=0.9)


def _descent_with_units(
    named: list[tuple[str, Tensor]], rate: float, factor: float
) -> torch.optim.SGD:
    return torch.optim.SGD(parameter_groups(named, rate, factor), lr=rate, momentum=0.9)
