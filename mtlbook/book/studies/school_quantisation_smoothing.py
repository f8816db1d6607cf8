"""Section 7.5 on School: whether a student is among the best tenth, and the score itself.

15,362 students in 139 schools of London (`mtlbook.data.school`), all in one table: the label is
whether the score of the examination is in the top tenth, the quantity the score itself, the second
cut whether it is above the median; the cuts are those of all students. Inputs are the 27 published
ones. Unlike those of NHANES they say much about the score.

Each seed draws 1,000 training, 1,000 validation and 3,000 test students, inputs and scores in units
of the training students. Contestants and trials are those of the page, steps those of the study of
NHANES (`mtlbook.book.experiments.quantisation_smoothing`). Under a minute on one core.
"""

from collections.abc import Sequence
from functools import cache, partial

import pandas as pd
import torch

from mtlbook.book.experiments.quantisation_smoothing import (
    DEGREE,
    LABEL,
    SECOND,
    Setting,
    recorded,
    three_tasks,
)
from mtlbook.data import school
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import scaled

SECTION = "7.5"
DATA = ("school",)
SEEDS = 32

SPLIT = Holdout(train=1000, validation=1000, test=3000)
STEPS = 300
TOP, HALF = 0.9, 0.5


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """The results: columns seed, method, metric and value."""
    data = cache(partial(scaled, of_students(school.load()), SPLIT))
    return recorded(Setting(data, SPLIT, steps=STEPS), seeds, device)


def of_students(schools: MultiTaskData) -> MultiTaskData:
    """One table of all students: the top tenth, the score, and whether it is above the median.

    Each student belongs to one school and has a score there; those of the others are 0.
    """
    score = torch.stack(list(schools.targets.values())).sum(0)
    cuts = torch.quantile(score, torch.tensor([TOP, HALF], dtype=score.dtype))
    targets = {
        LABEL: (score > cuts[0]).double(),
        DEGREE: score,
        SECOND: (score > cuts[1]).double(),
    }
    inputs = schools.inputs[:, school.MEASURED]
    return MultiTaskData.multi_label(three_tasks("area under the curve"), inputs, targets)
