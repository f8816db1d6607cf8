"""Section 4.3, eavesdropping: a hard task alone and beside others, each with twelve trials."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import adamw_trials, crossed, search
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.mechanisms.eavesdropping import overheard_features
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

WEIGHTS = (0.03, 0.3, 1.0)  # λ of the other task
DECAYS = (0.1, 0.3, 1.0, 3.0)  # of the hard task alone
JOINT_DECAYS = (0.3, 1.0)
VALIDATION, TEST = 200, 1000


@dataclass(frozen=True)
class Setting:
    """Data with a task `hard`, and what belongs to it.

    Attributes:
        data: from a seed to data in which every row has all labels.
        labels: training labels of the hard task.
        rows: for training, at most.
        rates: learning rates; joint networks have the first two.
        width: hidden units.
        batch: examples of each task a step.
    """

    data: Callable[[int], MultiTaskData]
    labels: int
    rows: int
    rates: tuple[float, float, float]
    width: int
    batch: int


def from_features(
    *, labels: int, rows: int, overlap: float = 1.0, shuffled: bool = False
) -> Setting:
    """Constructed data: `overheard_features` with `rows` rows for training."""

    @cache
    def data(seed: int) -> MultiTaskData:
        total = rows + VALIDATION + TEST
        return overheard_features(seed, rows=total, overlap=overlap, shuffled=shuffled).data

    return Setting(data, labels, rows, rates=(0.03, 0.1, 0.3), width=16, batch=32)


def from_digits(*, labels: int, rows: int, shuffled: bool = False) -> Setting:
    """Handwritten digits: the hard task is "odd" XOR "above four", and the hints are these two.

    The easy task is the digit; with `shuffled` its labels are permuted among the images.
    """
    images = embedded.digits("digit", "parity", "above_four")
    digit, odd, large = (images.targets[task.name] for task in images.tasks)
    targets = {"hard": (odd != large).double(), "easy": digit, "hints": torch.cat([odd, large], 1)}
    tasks = (
        Task.binary("hard", metric="error rate"),
        Task.classification("easy", classes=10, metric="error rate"),
        Task.binary("hints", outputs=2, metric="error rate"),
    )

    def data(seed: int) -> MultiTaskData:
        order = torch.arange(len(digit))
        if shuffled:
            order = torch.randperm(len(digit), generator=generator(seed, "shuffle"))
        return MultiTaskData.multi_label(tasks, images.inputs, targets | {"easy": digit[order]})

    return Setting(data, labels, rows, rates=(0.01, 0.03, 0.1), width=32, batch=16)


def tried(page: Page, setting: Setting, *others: str, labels: int | None = None) -> dict[str, Fit]:
    """Twelve trials of the hard task, alone or beside others.

    Alone it has three learning rates by four weight decays; beside others two by two, and three
    weights λ of the others' losses. Each step takes a minibatch for every task, so that the hard
    task sees as many of its own examples as alone.

    Arguments:
        page: whose seeds and device are used.
        setting: the data.
        others: the tasks that are learnt beside the hard one.
        labels: training labels of each of the others; by default as many as the hard task's.
    """
    weights = {
        f"λ = {weight:g}": {
            "combiner": LinearScalarisation({"hard": 1.0, **dict.fromkeys(others, weight)})
        }
        for weight in WEIGHTS
    }
    trials: Any = adamw_trials(setting.rates, DECAYS)
    if others:
        trials = crossed(weights, adamw_trials(setting.rates[:2], JOINT_DECAYS))
    kept = {"hard": setting.labels} | dict.fromkeys(others, labels or setting.labels)
    return search(
        page,
        partial(mlp, activation=nn.ReLU),
        setting.data,
        trials,
        width=setting.width,
        tasks=["hard", *others],
        split=Holdout(setting.rows, VALIDATION, TEST, labels=kept),
        steps=100,
        sampler=Balanced(setting.batch),
        stopping="hard",
        validate_every=20,
        evaluate_on=["validation", "test"],
    )


def chosen(page: Page, setting: Setting, *others: str, labels: int | None = None) -> Selected:
    """For each seed the trial with the least validation loss of the hard task."""
    return select(tried(page, setting, *others, labels=labels), each_task=True)
