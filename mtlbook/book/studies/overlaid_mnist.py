r"""Section 6.3: cross-stitch units on overlaid digits of MNIST, by convolutional networks.

The page's experiment in another place: two digits of MNIST in one image of 28 × 28 pixels, by
the recipe of MultiMNIST (`mtlbook.book.data.overlaid_digits`), in 3,000 training, 500 validation
and 2,000 test images, made anew for each seed. All training images tell the digit on the right, 300
of them the digit on the left. The network is a small LeNet: two convolutions of 5 × 5 with 10 and
20 channels, each with a rectifier and max-pooling over 2 × 2, then 50 features; a linear head a
task.

The contestants are those of the page, by plain stochastic gradient descent with momentum 0.9. All
take the same number of steps: 400 from scratch, then 200 more. Both columns start from the same
initial weights, so that their channels correspond before the first step. A step sees 16 labelled
images of each task: among 32 drawn from all, about three would tell the left digit, and on other
seeds its loss then stayed higher at every rate tried.

* *Single-task*: a network for each task. The first training has two learning rates, of which each
  task chooses by its own validation loss; the second starts from there and has four.
* *Cross-stitch*: the second training starts from the same single-task networks, with a unit for
  each channel behind each of the three stages; four trials, two initialisations of α times two
  learning rates of α.
* *Split after k*: one network that shares its first k stages; of the last, *hard sharing*. The
  *best split* has six trials, three depths times two learning rates, all steps in one training.

So everyone has six trials and chooses for each seed by validation loss: each task by its own for
single-task networks, by both tasks' for the others. Within a trial the weights with the least
validation loss are kept. All is computed in float32: other processors may give other third digits.
Fixed after pilots on seeds from 7000.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mtlbook.architectures.cross_stitch import CrossStitch, parameter_groups
from mtlbook.book.data.overlaid_digits import overlaid_mnist
from mtlbook.book.experiments.networks import hard_sharing, linear_head
from mtlbook.book.experiments.results import trained_network
from mtlbook.data import MultiTaskData
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "6.3"
DATA = ("mnist",)
SEEDS = 8

SPLIT = Consecutive(train=3000, validation=500, test=2000, labels={"left": 300})
TASKS = tuple(Task.classification(name, classes=10) for name in ("left", "right"))
CHANNELS = (10, 20, 50)
BATCH = 16
LEARNING_RATES = (0.01, 0.02)  # of the first training, and of splits throughout
MORE_RATES = (0.001, 0.002, 0.005, 0.01)  # of the second training of single-task networks
STITCH_RATE = 0.002  # of the second training of cross-stitch networks
SAME, FACTORS = (0.9, 0.5), (1.0, 10.0)  # their α_ii at the start; how much faster α learns
STEPS, MORE_STEPS = 400, 200


def run(
    seeds: Sequence[int], device: str, steps: int = STEPS, more_steps: int = MORE_STEPS
) -> pd.DataFrame:
    """Test errors and losses: a row a seed, method, task and metric."""
    data = cache(partial(overlaid_mnist, split=SPLIT))
    return measured(contestants(data, SPLIT, seeds, device, steps, more_steps), seeds)


def contestants(
    data: Callable[[int], MultiTaskData],
    split: Consecutive,
    seeds: Sequence[int],
    device: str,
    steps: int,
    more_steps: int,
) -> dict[str, Selected]:
    """The trials of each contestant, and each seed's choice among them."""
    common = Settings(
        split=split,
        sampler=Balanced(BATCH),
        stopping="sum",
        validate_every=50,
        evaluate_on=("validation", "test"),
        device=device,
        dtype=torch.float32,
        vectorise=False,  # stacked convolutions of many replicas take longer on a CPU
    )

    def descents(*rates: float) -> dict[str, Trial]:
        return {f"rate {rate:g}": Trial(partial(momentum_descent, rate=rate)) for rate in rates}

    def searched(
        build: Callable[[MultiTaskData, int], nn.Module], trials: dict[str, Trial], **changed: Any
    ) -> dict[str, Fit]:
        settings = replace(common, **changed)
        return fit_trials(build, data, seeds=seeds, trials=trials, settings=settings)

    apart = partial(split_network, shared=0)
    first = select(
        searched(apart, descents(*LEARNING_RATES), steps=steps, stopping="each"), each_task=True
    )
    alone = searched(
        apart,
        descents(*MORE_RATES),
        steps=more_steps,
        stopping="each",
        start=partial(take, first, "branches"),
    )
    stitched = {
        f"α {same:g}, {name}": fit
        for same in SAME
        for name, fit in searched(
            partial(stitched_network, same=same),
            {
                f"{factor:g} times as fast": Trial(
                    partial(descent_with_units, rate=STITCH_RATE, factor=factor)
                )
                for factor in FACTORS
            },
            steps=more_steps,
            start=partial(take, first, "columns"),
        ).items()
    }
    splits = {
        "hard sharing" if shared == len(CHANNELS) else f"split after {shared}": searched(
            partial(split_network, shared=shared),
            descents(*LEARNING_RATES),
            steps=steps + more_steps,
        )
        for shared in range(1, len(CHANNELS) + 1)
    }
    every_split = {f"{name}, {rate}": own[rate] for name, own in splits.items() for rate in own}
    return {
        "single-task": select(alone, each_task=True),
        "cross-stitch": select(stitched),
        **{name: select(own) for name, own in splits.items()},
        "best split": select(every_split),
    }


def measured(chosen: dict[str, Selected], seeds: Sequence[int]) -> pd.DataFrame:
    """The test errors and losses of the chosen trials as a tidy table."""
    rows = [
        (seed, method, task.name, metric, value)
        for method, own in chosen.items()
        for task in TASKS
        for metric, values in (
            ("error", 1 - own.score(task.name)),
            ("loss", own.score(task.name, "loss")),
        )
        for seed, value in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "task", "metric", "value"])


def stages() -> list[nn.Module]:
    """The three stages of a column."""
    first, second, features = CHANNELS
    return [
        nn.Sequential(nn.Conv2d(1, first, 5), nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(first, second, 5), nn.MaxPool2d(2), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(second * 4 * 4, features), nn.ReLU()),
    ]


def split_network(data: MultiTaskData, _seed: int, *, shared: int) -> HardSharing:
    """One network that shares its first stages; with none, single-task networks."""
    return hard_sharing(stages, data.tasks, CHANNELS[-1], branch_at=shared, same_start=True)


def stitched_network(data: MultiTaskData, _seed: int, *, same: float) -> CrossStitch:
    """A column a task, with a unit for each channel behind each stage."""
    heads = {task.name: linear_head(CHANNELS[-1], task) for task in data.tasks}
    return CrossStitch(stages, heads, same=same, channels=CHANNELS)


def take(trained: Selected, columns: str, model: nn.Module, seed: int) -> None:
    """Give a network's branches or columns, and its heads, the weights of single-task networks."""
    for task in TASKS:
        source = trained_network(trained, seed, task.name)
        for part, own in (("branches", columns), ("heads", "heads")):
            weights = source.get_submodule(f"{part}.{task.name}").state_dict()
            model.get_submodule(f"{own}.{task.name}").load_state_dict(weights)


def momentum_descent(named: list[tuple[str, Tensor]], rate: float) -> torch.optim.SGD:
    """Gradient descent with momentum."""
    return torch.optim.SGD([values for _, values in named], lr=rate, momentum=0.9)


def descent_with_units(
    named: list[tuple[str, Tensor]], rate: float, factor: float
) -> torch.optim.SGD:
    """The same, with α learning `factor` times as fast."""
    return torch.optim.SGD(parameter_groups(named, rate, factor), lr=rate, momentum=0.9)
