"""Section 7.9: every task beside every other one, all pairs and seeds in a few vectorised fits.

A pair of tasks in a seed is a replica of its own (`pair_number`): a network of one hidden layer
with two heads, of which each task keeps the weights at its own least validation loss. So one
training gives two gains, that of either task beside the other. Trunk and heads start from weights
that depend on the seed and the task's name alone, alike in pairs and in single-task training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations, groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mtlbook.book.experiments.training import adamw
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.settings import Settings

PAIRS = 1000  # more than there are pairs of tasks: room in the number of a replica
CURVE_POINTS = 20


@dataclass(frozen=True)
class Setting:
    """Classification tasks on the same inputs, and how each pair of them is trained.

    Attributes:
        data: from a seed to its data, whose rows are ordered as the split says.
        names: of the tasks.
        split: how many rows come first, next and last.
        labels: of how many of the first training rows each task has the labels.
        classes: outputs of every head, as many as the task with the most classes needs.
        width, rate, decay, steps, batch: of the network and of its training with AdamW.
    """

    data: Callable[[int], MultiTaskData]
    names: Sequence[str]
    split: Consecutive
    labels: Mapping[str, int]
    classes: int
    width: int = 16
    rate: float = 0.03
    decay: float = 0.0
    steps: int = 200
    batch: int = 32


@dataclass(frozen=True, eq=False)
class Pairs:
    """What training all pairs of tasks gave.

    Attributes:
        single: test loss of each task alone.
        joint: test loss of the row's task beside the column's; NaN on the diagonal.
        curves: training loss of each task alone, at equally spaced steps.
    """

    single: Float[np.ndarray, "seeds tasks"]
    joint: Float[np.ndarray, "seeds tasks tasks"]
    curves: Float[np.ndarray, "seeds tasks points"]

    @property
    def gains(self) -> Float[np.ndarray, "seeds tasks tasks"]:
        """The relative reduction of the row's task's loss beside the column's task, in percent."""
        return 100 * (1 - self.joint / self.single[:, :, None])


def train_pairs(setting: Setting, seeds: Sequence[int], device: str = "cpu") -> Pairs:
    """Train each task alone and each pair of tasks, for each seed."""
    names = list(setting.names)
    alone = _trained(setting, seeds, [(name,) for name in names], device)
    single = np.stack([alone[(name,)].loss(name) for name in names], axis=1)
    curves = np.stack([alone[(name,)].curve(name) for name in names], axis=1)
    together = _trained(setting, seeds, list(combinations(names, 2)), device)
    joint = np.full((len(seeds), len(names), len(names)), np.nan)
    for pair, trained in together.items():
        for main, auxiliary in (pair, pair[::-1]):
            joint[:, names.index(main), names.index(auxiliary)] = trained.loss(main)
    return Pairs(single, joint, curves)


@dataclass(frozen=True, eq=False)
class _Trained:
    """A group of tasks' share of a fit: its seeds."""

    fit: Fit
    group: Sequence[str]
    rows: slice

    def loss(self, name: str) -> Float[np.ndarray, " seeds"]:
        return self.fit.score(PLACES[self.group.index(name)], "loss")[self.rows]

    def curve(self, name: str) -> Float[np.ndarray, "seeds points"]:
        history, place = self.fit.history, PLACES[self.group.index(name)]
        own = history[(history["task"] == place) & (history["part"] == "train")]
        table = own.pivot(index="seed", columns="step", values="loss")
        return table.loc[list(self.fit.seeds)].to_numpy()[self.rows]


PLACES = ("first", "second")


def _trained(
    setting: Setting, seeds: Sequence[int], groups: Sequence[tuple[str, ...]], device: str
) -> dict[tuple[str, ...], _Trained]:
    """Each group of tasks, those with equally many labels in one fit."""
    data = cache(setting.data)

    def size(group: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(setting.labels[name] for name in group)

    # Of replicas that train together the first tasks have equally many labels, so have the second.
    ordered = [tuple(sorted(group, key=setting.labels.__getitem__)) for group in groups]
    found = {}
    for _, members in groupby(sorted(ordered, key=size), key=size):
        own = list(members)
        numbered = [seed * PAIRS + place for place in range(len(own)) for seed in seeds]
        trained = fit(
            partial(_network, groups=own, width=setting.width),
            lambda number, own=own: _of_pair(setting, data(number // PAIRS), own[number % PAIRS]),
            seeds=numbered,
            settings=Settings(
                split=setting.split,
                steps=setting.steps,
                sampler=Balanced(setting.batch),
                optimiser=adamw(setting.rate, setting.decay),
                stopping="each",
                validate_every=max(1, setting.steps // CURVE_POINTS),
                evaluate_on=["test"],
                device=device,
                progress_label="section 7.9",
            ),
        )
        for place, group in enumerate(own):
            rows = slice(place * len(seeds), (place + 1) * len(seeds))
            found[group] = _Trained(trained, group, rows)
    return {group: found[own] for group, own in zip(groups, ordered, strict=True)}


def _of_pair(setting: Setting, data: MultiTaskData, group: Sequence[str]) -> MultiTaskData:
    """The data of some tasks, named by their places, with heads of equal size."""
    targets, labelled = {}, {}
    for place, name in zip(PLACES, group, strict=False):
        marks = torch.ones(data.rows, dtype=torch.bool)
        marks[setting.labels[name] : setting.split.train] = False
        targets[place], labelled[place] = data.targets[name], marks
    tasks = [Task.classification(place, classes=setting.classes) for place in targets]
    return MultiTaskData.partial(tasks, data.inputs, targets, labelled)


def _network(
    data: MultiTaskData, seed: int, *, groups: Sequence[Sequence[str]], width: int
) -> HardSharing:
    """One hidden layer, and a linear head for each task of a replica's group."""
    group, inputs = groups[seed % PAIRS], data.inputs.shape[1]

    def drawn(rows: int, columns: int, owner: str) -> nn.Linear:
        layer = nn.Linear(columns, rows)
        source = generator(seed // PAIRS, "7.9 weights", owner)
        for values in layer.parameters():
            nn.init.uniform_(values, -(columns**-0.5), columns**-0.5, generator=source)
        return layer

    heads = {
        task.name: drawn(task.outputs, width, name)
        for task, name in zip(data.tasks, group, strict=True)
    }
    return HardSharing(lambda: [nn.Sequential(drawn(width, inputs, "trunk"), nn.Tanh())], heads)
