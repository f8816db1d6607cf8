r"""Section 6.7: tensor factorisation of convolutional networks, on five alphabets of Omniglot.

Each alphabet is a task: which of its 22 to 40 characters is it? The five of the first published
"minimal" set (Balinese, Early Aramaic, Greek, Korean, Latin), 136 characters with 20 drawings each,
in 15 × 15 pixels. Of each alphabet's drawings a random half is for training, a fifth for validation
and the rest for testing. The networks have two convolutions of 3 × 3 with stride 2 and 6 and 12
channels, then 24 features, each layer with a rectifier; an alphabet's output layer is its own.

The contestants are those of the page (`mtlbook.book.experiments.factorising`), all by AdamW in 240
steps in all, which see 8 drawings of each alphabet:

* *Single-task*: a network for each alphabet, all from equal initial weights. 80 steps at two
  rates, of which each task chooses by its own validation loss, then 160 more at four.
* *Factorised*: for these 160 steps LAF factors of the networks of the first 80, at two learning
  rates with rank K = 2 and with the ranks of ε = 10 %.
* *Random start*: LAF factors of rank 2 from random initial weights, for all 240 steps, four rates.
* *Splits*: one network that shares its first stage, its first two, or all (*hard sharing*), and
  hard sharing with 9, 18 and 36 channels and features, which has about as many parameters as the
  factors of rank 2. All steps in one training, two rates each: eight trials, of which validation
  chooses the *best split*.

All is computed in float32: other processors may give other third digits. It takes about
six minutes of one core with 16 seeds. Fixed after pilots on seeds from 7000.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import nn

from mtlbook.book.experiments.factorising import Networks, Train, contestants
from mtlbook.data import Holdout, omniglot, registry
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.tasks import Task
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected
from mtlbook.training.settings import Settings, Trial

SECTION = "6.7"
DATA = ("omniglot",)
SEEDS = 16

SIDE = 15
SPLIT = Holdout(train=0.5, validation=0.2, test=0.3)
WIDTHS, WIDE = (6, 12, 24), (9, 18, 36)
STEPS, MORE_STEPS = 80, 160
BATCH = 8
METHODS = ("single-task", "factorised", "rank K", "ranks of ε", "random start, rank K",
           "hard sharing", "wide hard sharing", "best split")  # fmt: skip


def run(
    seeds: Sequence[int], device: str, steps: int = STEPS, more_steps: int = MORE_STEPS
) -> pd.DataFrame:
    """Test errors and losses: a row a seed, method, task and metric."""
    data, networks = alphabets(), of_widths(steps, more_steps)
    return measured(contestants(training(data, seeds, device), networks), seeds)


@cache
def alphabets() -> MultiTaskData:
    """The first minimal set, a data set and a classification an alphabet."""
    found = omniglot.read(registry.path("omniglot", omniglot.FILES[0]), SIDE)
    return MultiTaskData.several(
        {
            Task.classification(name, classes=own.characters): (
                own.images.unsqueeze(1),
                own.labels,
            )
            for name, own in found.items()
        }
    )


def of_widths(steps: int, more_steps: int) -> Networks:
    """The networks of the study."""
    return Networks(
        hidden=convolutional(*WIDTHS),
        width=WIDTHS[-1],
        wide=convolutional(*WIDE),
        wide_width=WIDE[-1],
        stack_last=False,
        rank=2,
        steps=steps,
        more_steps=more_steps,
        decay=0.1,
    )


def convolutional(first: int, second: int, features: int) -> Callable[[], list[nn.Module]]:
    """A function that makes the three stages of a network."""
    left = ((SIDE + 3) // 4) ** 2

    def stages() -> list[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(1, first, 3, stride=2, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(first, second, 3, stride=2, padding=1), nn.ReLU()),
            nn.Sequential(nn.Flatten(), nn.Linear(second * left, features), nn.ReLU()),
        ]

    return stages


def training(data: MultiTaskData, seeds: Sequence[int], device: str) -> Train:
    """The training that all contestants have in common."""

    def train(
        build: Callable[[MultiTaskData, int], nn.Module],
        trials: Mapping[str, Mapping[str, Any]],
        **settings: Any,
    ) -> dict[str, Fit]:
        common: dict[str, Any] = {
            "split": SPLIT,
            "sampler": Balanced(BATCH),
            "stopping": "relative",
            "validate_every": 40,
            "evaluate_on": ("validation", "test"),
            "device": device,
            "dtype": torch.float32,
            "vectorise": False,  # stacked convolutions of many replicas take longer on a CPU
        }
        return fit_trials(
            build,
            data,
            seeds=seeds,
            trials={name: Trial(**own) for name, own in trials.items()},
            settings=Settings(**common | settings),
        )

    return train


def measured(chosen: Mapping[str, Selected], seeds: Sequence[int]) -> pd.DataFrame:
    """The test errors and losses of the chosen trials as a tidy table."""
    rows = [
        (seed, method, task, metric, value)
        for method in METHODS
        for task in chosen[method].choices.columns
        for metric, values in (
            ("error", 1 - chosen[method].score(task)),
            ("loss", chosen[method].score(task, "loss")),
        )
        for seed, value in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "task", "metric", "value"])
