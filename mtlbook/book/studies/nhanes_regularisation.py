"""Section 4.5 on NHANES 2017-2018: sharing as a regulariser where inputs say little.

Ten tasks, the nine answers of the PHQ-9 and the diagnosis that their sum gives, from age, sex,
income and measures of body and blood (`mtlbook.book.data.nhanes`): 500 training, 500 validation and
1,000 test rows, drawn anew for each seed and standardised with what the training rows say; networks
of one hidden layer of tanh units.

1. *Fit to shuffled labels.* Each task's labels are permuted among the rows, by itself. Separate
   networks of 4 units each, a shared layer of 4 units and one with as many parameters as the
   separate networks together are trained on 500 rows without any regulariser, for 1,000 steps: what
   is wanted is what they can fit, not how fast. Reported is the share of the training loss of a
   constant prediction that disappears, averaged over the tasks.
2. *Test loss* on the true labels, averaged over the tasks relative to the loss of a constant
   prediction: separate networks, and a shared layer with as many parameters, stopped at their least
   validation loss, with nothing else, with an L2 penalty or with dropout. Each of the three has
   eight trials of width (8 or 32 units a separate network), learning rate and strength, chosen on
   validation data. Sharing with early stopping alone has as many trials as the three together, four
   widths with six rates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import nn

from mtlbook.book.data import nhanes
from mtlbook.book.experiments.networks import hard_sharing
from mtlbook.book.experiments.regularisers import ALONE as AS_MANY
from mtlbook.book.experiments.regularisers import BEST
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled
from mtlbook.layers.dropout import Dropout
from mtlbook.mechanisms.regularisation import equal_width
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.fit import Fit, fit_trials
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select
from mtlbook.training.settings import Settings, Trial

SECTION = "4.5"
DATA = ("nhanes_2017",)
SEEDS = 16

SPLIT = Holdout(train=500, validation=500, test=1000)
STEPS = 150
STEPS_ON_NOISE, UNITS_ON_NOISE = 1000, 4
SEPARATE, SHARED = "separate", "shared"


@dataclass(frozen=True)
class Grid:
    """The trials of a regulariser: every combination."""

    rates: Sequence[float]
    widths: Sequence[int] = (8, 32)
    penalties: Sequence[float] = (0.0,)
    dropouts: Sequence[float] = (0.0,)


GRIDS = {
    "early stopping": Grid(rates=(0.001, 0.003, 0.01, 0.03)),
    "L2 penalty": Grid(rates=(0.01, 0.03), penalties=(0.03, 0.1)),
    "dropout": Grid(rates=(0.01, 0.03), dropouts=(0.3, 0.6)),
}
# As many trials as the others have together.
ALONE = Grid(rates=(0.003, 0.006, 0.01, 0.02, 0.03, 0.06), widths=(4, 8, 16, 32))


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """The results: columns seed, measure, network, regulariser, metric and value."""
    table = nhanes.load()
    tasks = [task.name for task in table.tasks]
    train = partial(_train, seeds=seeds, device=device)
    data = cache(partial(scaled, table, SPLIT))

    @cache
    def noise(seed: int) -> MultiTaskData:
        return scaled(shuffled(table, seed), SPLIT, seed)

    def constants(made: Callable[[int], MultiTaskData]) -> dict[str, np.ndarray]:
        """The loss of a constant for each task and seed, in the units of the seed's data."""
        of_seeds = [constant_losses(made(seed)) for seed in seeds]
        return {task: np.array([losses[task] for losses in of_seeds]) for task in tasks}

    constant, constant_on_noise = constants(data), constants(noise)
    inputs = data(seeds[0]).inputs.shape[1]

    def equal(width: int) -> int:
        return equal_width(width, tasks=len(tasks), inputs=inputs)

    found = {}
    for name, branch_at, width in (
        (SEPARATE, 0, UNITS_ON_NOISE),
        (SHARED, None, equal(UNITS_ON_NOISE)),
        ("shared, same width", None, UNITS_ON_NOISE),
    ):
        grid = Grid((0.01,), (width,))
        (fitted,) = train(branch_at, noise, grid, stopping=None, steps=STEPS_ON_NOISE).values()
        left = [
            fitted.score(task, "loss", "train") / loss for task, loss in constant_on_noise.items()
        ]
        found["fit to shuffled labels", name, "none"] = 1 - np.mean(left, axis=0)
    for name, branch_at, stopping in ((SEPARATE, 0, "each"), (SHARED, None, "sum")):
        trials: dict[str, dict[str, Fit]] = {BEST: {}}
        for regulariser, grid in GRIDS.items():
            widths = grid.widths if branch_at == 0 else [equal(width) for width in grid.widths]
            own = train(branch_at, data, replace(grid, widths=widths), stopping=stopping)
            trials[regulariser] = own
            trials[BEST] |= {f"{regulariser}, {trial}": fitted for trial, fitted in own.items()}
        if name == SHARED:
            trials[AS_MANY] = train(None, data, ALONE, stopping=stopping)
        for regulariser, own in trials.items():
            chosen = select(own, each_task=stopping == "each")
            found["test loss", name, regulariser] = np.mean(
                [chosen.score(task, "loss") / loss for task, loss in constant.items()], axis=0
            )
    return pd.DataFrame(
        [
            (seed, *key, "relative loss", value)
            for key, values in found.items()
            for seed, value in zip(seeds, values, strict=True)
        ],
        columns=["seed", "measure", "network", "regulariser", "metric", "value"],
    )


def shuffled(table: RawTable, seed: int) -> RawTable:
    """The table with each task's labels permuted among the rows by themselves."""
    rows = len(table.inputs)
    targets = {
        name: values[torch.randperm(rows, generator=generator(seed, "shuffled labels", name))]
        for name, values in table.targets.items()
    }
    return replace(table, targets=targets)


def _train(
    branch_at: int | None,
    data: Callable[[int], MultiTaskData],
    grid: Grid,
    *,
    stopping: str | None,
    seeds: Sequence[int],
    device: str,
    steps: int | None = None,
) -> dict[str, Fit]:
    taken = STEPS if steps is None else steps
    settings = Settings(
        split=SPLIT,
        steps=taken,
        sampler=Mixed(50),
        stopping=stopping,
        validate_every=taken // 20,
        device=device,
        progress_label="NHANES",
    )
    found: dict[str, Fit] = {}
    for width, dropout in product(grid.widths, grid.dropouts):
        # Adam's weight decay is the gradient of an L2 penalty.
        trials = {
            f"width {width}, dropout {dropout:g}, rate {rate:g}, penalty {penalty:g}": Trial(
                partial(torch.optim.Adam, lr=rate, weight_decay=penalty, fused=True)
            )
            for rate, penalty in product(grid.rates, grid.penalties)
        }
        network = partial(_network, width=width, dropout=dropout, branch_at=branch_at)
        found |= fit_trials(network, data, seeds=seeds, trials=trials, settings=settings)
    return found


def _network(
    data: MultiTaskData, _seed: int, *, width: int, dropout: float, branch_at: int | None
) -> HardSharing:
    def stages() -> list[nn.Module]:
        return [nn.Linear(data.inputs.shape[1], width), nn.Tanh(), Dropout(dropout)]

    return hard_sharing(stages, data.tasks, width, branch_at=branch_at)


def constant_losses(data: MultiTaskData) -> dict[str, float]:
    """For each task the loss of the best constant prediction: the variance, or the entropy."""
    losses = {}
    for task in data.tasks:
        values = data.targets[task.name].numpy()
        share = values.mean()
        losses[task.name] = float(
            values.var()
            if task.likelihood == "gaussian"
            else -share * np.log(share) - (1 - share) * np.log(1 - share)
        )
    return losses
