"""Section 8.4: weights, rules and what neither reaches, on 14 species in rivers.

Water quality: 1,060 samples of Slovenian rivers, 16 physical and chemical measurements, and 14
regressions, how much of each of 14 plants and animals was found (the table's 0 to 5); standardised
by the training rows. A seed splits the samples into 500 for training, 200 for validation and 360
for testing.

The contestants are those of the page, with the same trials (`experiments.scalarisation`), and 150
steps of Adam. For the ends of descent on known fronts each seed draws half of the rows and three of
the 14 species. All is computed in float64. 16 seeds take about a minute of one core. Fixed after
pilots on seeds from 7000.
"""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.experiments.scalarisation import Contest, drawn_fits, end_rules, ends_by_rule
from mtlbook.book.experiments.training import adam
from mtlbook.data import mulan
from mtlbook.data.multi_task_data import Holdout
from mtlbook.data.scaling import RawTable, scaled
from mtlbook.training.selection import Selected

SECTION = "8.4"
DATA = ("mulan_mtr",)
SEEDS = 16

SPLIT = Holdout(train=500, validation=200, test=360)
RATES = (0.005, 0.01, 0.02, 0.04)


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """Test losses and shares of ends: a row a seed, method, and task or kind of end."""
    return measured(mulan.load("wq"), SPLIT, seeds, device)


def measured(
    table: RawTable, split: Holdout, seeds: Sequence[int], device: str, steps: int = 150
) -> pd.DataFrame:
    """The study on one table."""
    tasks = [task.name for task in table.tasks]
    some = np.random.default_rng(0)
    drawn = {f"draw {n}": tuple(10 ** some.uniform(-1, 0, len(tasks))) for n in (1, 2)}
    contest = Contest(
        seeds=seeds,
        device=device,
        data=cache(partial(scaled, table, split)),
        tasks=tasks,
        weights={"even": (1.0,) * len(tasks)} | drawn,
        optimiser=adam,
        rates=RATES,
        split=split,
        steps=steps,
    )
    rows = []
    chosen = {"rules": contest.rules(), "fixed": contest.fixed(), "unitary": contest.unitary()}
    for method, own in chosen.items():
        rows += _losses(method, own, tasks, seeds)
    filled = table.filled(table.inputs.nanmean(0))
    targets = torch.cat(list(filled.targets.values()), dim=1)
    inputs: Float[Tensor, "rows columns"] = filled.inputs
    fits = drawn_fits(inputs, targets, seeds)
    for method, shares in ends_by_rule(fits, end_rules(), starts=6).items():
        for kind, values in shares.items():
            rows += [(s, method, kind, "share", v) for s, v in zip(seeds, values, strict=True)]
    return pd.DataFrame(rows, columns=["seed", "method", "task", "metric", "value"])


def _losses(
    method: str, own: Selected, tasks: Sequence[str], seeds: Sequence[int]
) -> list[tuple[int, str, str, str, float]]:
    return [
        (seed, method, task, "loss", float(value))
        for task in tasks
        for seed, value in zip(seeds, own.score(task, "loss"), strict=True)
    ]
