r"""Section 6.3: cross-stitch units on overlaid digits of MNIST, by convolutional networks.

The chapter's experiment in another place: two digits of MNIST in one image of 28 × 28 pixels, by
the recipe of MultiMNIST (`mtlbook.book.data.overlaid_digits`), in 3,000 training, 500 validation
and 2,000 test images, made anew for each seed. All training images tell the digit on the right, 300
of them the digit on the left. The network is a small LeNet: two convolutions of 5 × 5 with 10 and
20 channels, each with a rectifier and max-pooling over 2 × 2, then 50 features; a linear head a
task.

The contestants are those of the chapter, by plain stochastic gradient descent with momentum 0.9.
All take the same number of steps: 400 from scratch, then 200 at 0.03 times the learning rate.
Unlike in the chapter, a step sees 16 labelled images for each task. Among 32 drawn from all, about
three would tell the left digit; on other seeds its loss then stayed higher at every rate tried.

* *Separate networks*: one a task, which the second training trains on.
* *Cross-stitch*: starts the second training from the separate networks, with a unit for each
  channel behind each of the three stages, (0.9, 0.1), and α learning 100 times as fast.
* *Split after k*: one network that shares its first k stages; of the last k it is hard sharing. The
  *best split* is chosen on validation data.

Each has two trials of the first learning rate, chosen for each seed by validation loss: for each
task by separate networks, for both tasks together by the others. The best split is chosen among the
six of its depths and rates, more than anyone else has. Within a trial the weights with the least
validation loss are kept. Separate and hard-shared networks did well at both rates on other
seeds, and worse at twice the larger one. All is computed in float32: other processors may give
other third digits.
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
from mtlbook.data import MultiTaskData
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import Fit, fit, fit_trials
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "6.3"
DATA = ("mnist",)
SEEDS = 5

SPLIT = Consecutive(train=3000, validation=500, test=2000, labels={"left": 300})
TASKS = tuple(Task.classification(name, classes=10) for name in ("left", "right"))
CHANNELS = (10, 20, 50)
BATCH = 16
LEARNING_RATES = (0.01, 0.02)
SLOWER = 0.03
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
    )
    rates = {f"rate {rate:g}": rate for rate in LEARNING_RATES}
    trials = {name: Trial(partial(momentum_descent, rate=rate)) for name, rate in rates.items()}
    apart = partial(split_network, shared=0)
    first = replace(common, steps=steps, stopping="each")
    trained = fit_trials(apart, data, seeds=seeds, trials=trials, settings=first)

    def second_training(
        build: Callable[[MultiTaskData, int], nn.Module],
        start: Callable[[Fit, nn.Module, int], None],
        optimiser: Callable[..., torch.optim.Optimizer],
        **changed: Any,
    ) -> dict[str, Fit]:
        found = {}
        for name, rate in rates.items():
            settings = replace(
                common,
                steps=more_steps,
                optimiser=partial(optimiser, rate=SLOWER * rate),
                start=partial(start, trained[name]),
                **changed,
            )
            found[name] = fit(build, data, seeds=seeds, settings=settings)
        return found

    separate = second_training(apart, go_on, momentum_descent, stopping="each")
    stitched = second_training(stitched_network, stitch, descent_with_units)
    total = steps + more_steps
    both = replace(
        common,
        steps=total,
        schedule=lambda progress: 1.0 if round(progress * total) < steps else SLOWER,
    )
    splits = {
        f"split after {shared}": fit_trials(
            partial(split_network, shared=shared), data, seeds=seeds, trials=trials, settings=both
        )
        for shared in range(1, len(CHANNELS) + 1)
    }
    every_split = {f"{name}, {rate}": own[rate] for name, own in splits.items() for rate in own}
    return {
        "separate networks": select(separate, each_task=True),
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
    """One network that shares its first stages; with none, separate networks."""
    return hard_sharing(stages, data.tasks, CHANNELS[-1], branch_at=shared)


def stitched_network(data: MultiTaskData, _seed: int, *, same: float = 0.9) -> CrossStitch:
    """A column a task, with a unit for each channel behind each stage."""
    heads = {task.name: linear_head(CHANNELS[-1], task) for task in data.tasks}
    return CrossStitch(stages, heads, same=same, channels=CHANNELS)


def go_on(trained: Fit, model: nn.Module, seed: int) -> None:
    """Give separate networks the weights of trained ones, each task's at its own best point."""
    for task in TASKS:
        source = trained.model(seed, task.name)
        for part in (f"branches.{task.name}", f"heads.{task.name}"):
            model.get_submodule(part).load_state_dict(source.get_submodule(part).state_dict())


def stitch(trained: Fit, model: nn.Module, seed: int) -> None:
    """Give the columns and heads the weights of trained separate networks."""
    for task in TASKS:
        source = trained.model(seed, task.name)
        for part, own in (("branches", "columns"), ("heads", "heads")):
            weights = source.get_submodule(f"{part}.{task.name}").state_dict()
            model.get_submodule(f"{own}.{task.name}").load_state_dict(weights)


def momentum_descent(named: list[tuple[str, Tensor]], rate: float) -> torch.optim.SGD:
    """Gradient descent with momentum."""
    return torch.optim.SGD([values for _, values in named], lr=rate, momentum=0.9)


def descent_with_units(named: list[tuple[str, Tensor]], rate: float) -> torch.optim.SGD:
    """The same, with α learning 100 times as fast."""
    return torch.optim.SGD(parameter_groups(named, rate), lr=rate, momentum=0.9)
