"""The study of yeast genes on made-up ones."""

import torch

from mtlbook.book.studies import yeast_functions as study
from mtlbook.data import MultiTaskData
from mtlbook.data.multi_task_data import Holdout
from mtlbook.tasks import Task

SMALL = Holdout(train=60, validation=20, test=20)
METHODS = ["tree", "random trees", "hard sharing", "best split", "single-task"]


def test_every_contestant_is_measured_on_every_task():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 6, generator=random, dtype=torch.float64)
    targets = {f"class{n}": (inputs[:, n] > 0).double() for n in range(3)}
    whole = MultiTaskData.multi_label([Task.binary(name) for name in targets], inputs, targets)
    chosen = study.contestants(whole, SMALL, [0, 1], "cpu", steps=16)
    table = study.measured(chosen, whole, [0, 1])
    assert list(table["method"].unique()) == METHODS
    assert len(table) == 2 * len(METHODS) * 3 * 2
    assert bool(table["value"].between(0, 5).all())
