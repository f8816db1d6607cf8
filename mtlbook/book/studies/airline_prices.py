"""Section 8.5: all groups of six airline prices, and what predicts their gains.

Airline ticket prices of the next day (`atp1d`): 337 rows of 411 columns, six regressions, the
lowest price of any and of five named airlines; standardised by the training rows. A seed splits the
rows into 150 for training, 80 for validation and 107 for testing. Contestants and predictors are
those of the page (`experiments.grouping`), with eight units, and 100 steps of Adam at rate 0.01.

All 63 groups are trained at once, in float64; 16 seeds take about two minutes of one core. Fixed
after pilots on seeds from 7000.
"""

from collections.abc import Sequence
from functools import cache, partial

import pandas as pd

from mtlbook.book.experiments.grouping import (
    AllGroups,
    gains,
    partition_losses,
    rank_correlations,
)
from mtlbook.data import mulan
from mtlbook.data.multi_task_data import Holdout
from mtlbook.data.scaling import scaled

SECTION = "8.5"
DATA = ("mulan_mtr",)
SEEDS = 16

SPLIT = Holdout(train=150, validation=80, test=107)


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """Rank correlations of predictors and losses of partitions: a row a seed, metric and method."""
    table = mulan.load("atp1d")
    return measured(
        AllGroups(
            seeds=seeds,
            device=device,
            data=cache(partial(scaled, table, SPLIT)),
            split=SPLIT,
            rate=0.01,
        )
    )


def measured(groups: AllGroups) -> pd.DataFrame:
    """The study on any data."""
    losses, affinities = groups.losses(), groups.predictors()
    found = {
        "rank correlation": rank_correlations(affinities, gains(losses)),
        "partition loss": partition_losses(affinities, losses, most=2),
    }
    rows = [
        (seed, metric, method, value)
        for metric, by_method in found.items()
        for method, values in by_method.items()
        for seed, value in zip(groups.seeds, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "metric", "method", "value"])
