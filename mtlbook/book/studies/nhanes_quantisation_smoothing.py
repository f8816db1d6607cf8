r"""Section 7.5 on NHANES 2017-2018: a screening for depression, and the sum that it thresholds.

The label is the usual screening by the PHQ-9 (`mtlbook.book.data.nhanes`): is the sum of nine
answers at least 10? It is for 9 % of 5,068 adults. Inputs are age, sex, income, and measures of
body and blood, with marks of what is missing; no answer and no sum is among them. The auxiliary
tasks are made of the same answers, so they add labels and no rows:

- `degree`, the sum itself, in robust units of the training rows and clipped at three of them;
- `second`, a second cut: is the sum at least 5, the threshold of *mild* symptoms?

Each seed draws 1,000 training, 1,000 validation and 3,000 test rows, scaled with what the training
rows say. The contestants are those of the page (`mtlbook.book.experiments.quantisation_smoothing`):
the label alone, with the degree, with the second cut, with the degree permuted within each class,
and the regression of the degree whose threshold is calibrated on the validation labels; 16 tanh
units, six trials each, 300 steps. Under a minute on one core. No statement about the population:
the survey's weights are not used.
"""

from collections.abc import Sequence
from functools import cache

import pandas as pd
import torch

from mtlbook.auxiliary.quantisation_smoothing import clipped
from mtlbook.book.data import nhanes
from mtlbook.book.experiments.quantisation_smoothing import (
    DEGREE,
    LABEL,
    SECOND,
    Setting,
    recorded,
    three_tasks,
    with_degree,
)
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled

SECTION = "7.5"
DATA = ("nhanes_2017",)
SEEDS = 32

SPLIT = Holdout(train=1000, validation=1000, test=3000)
STEPS = 300
MILD = 5


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """The results: columns seed, method, metric and value."""
    people = thresholds_of_the_sum(nhanes.load())
    setting = Setting(cache(lambda seed: of_seed(people, seed)), SPLIT, steps=STEPS)
    return recorded(setting, seeds, device)


def thresholds_of_the_sum(table: RawTable) -> RawTable:
    """The label, the sum of the answers, and the second cut, in place of the answers."""
    total = torch.stack(
        [values for name, values in table.targets.items() if name != "diagnosis"]
    ).sum(0)
    targets = {
        LABEL: table.targets["diagnosis"],
        DEGREE: total,
        SECOND: (total >= MILD).double(),
    }
    every = torch.ones(len(total), dtype=torch.bool)
    return RawTable(
        tuple(three_tasks("area under the curve")),
        table.inputs,
        targets,
        dict.fromkeys(targets, every),
    )


def of_seed(table: RawTable, seed: int) -> MultiTaskData:
    """The people with inputs and sum in units of a seed's training rows."""
    made = scaled(table, SPLIT, seed, targets=False)
    train = SPLIT.draw(made, seed).train
    total = made.targets[DEGREE]
    return with_degree(made, clipped(total, total[train]))
