r"""Section 7.7: the sales of a product's later months as outputs beside those of the month asked.

Data: `osales` of the multi-target regression sets (`mtlbook.data.mulan`; Spyromitros-Xioufis et
al., 2016), 639 products with 401 features that are known before the campaign, and their sales in
each of twelve months. Targets are logarithms, log(1 + sales); inputs and targets are in units of a
seed's training rows, and the gaps of 25 input columns are filled with the mean of the training
rows' known values (`mtlbook.data.scaling`). All months' sales are known for all products, so that
the other months bring labels and no rows.

Each seed draws 200 training, 100 validation and 300 test rows. Networks have one layer of 8 tanh
units, take 120 steps of AdamW with 50 rows a step, and have twelve trials
(`mtlbook.book.experiments.future_to_present`), of which the main month's validation loss chooses.

* `month 1` is predicted `alone`, `beside` the months 2 to 12 (the future in the strict sense: later
  than the outcome), beside the same with products `shuffled`, and by the competitor that first
  predicts these months and is `fed` the predictions.
* `month 12` is predicted `alone` and `beside` the months 1 to 11, which come to be known in
  between: the farthest horizon.
* The linear models of month 12 go from the features directly (`least squares, ridge`) or along the
  chain of the months 1 to 11 (`LuPTS, ridge`); with 200 rows for 401 columns each step needs its
  ridge, of which four penalties are tried.

Metric: the mean squared error on test rows, in units of the training rows' variance. A
minute and a half of one core. Fixed after pilots on seeds from 7000.
"""

from collections.abc import Sequence
from functools import cache, partial

import pandas as pd
import torch

from mtlbook.book.experiments.future_linear import linear_losses
from mtlbook.book.experiments.future_to_present import Setting
from mtlbook.book.page import Page
from mtlbook.data import mulan
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled
from mtlbook.tasks import Task
from mtlbook.training.sampling import Mixed

SECTION = "7.7"
DATA = ("mulan_mtr",)
SEEDS = 32

SPLIT = Holdout(train=200, validation=100, test=300)
FIRST, LAST = 1, 12
WIDTH, BATCH, STEPS = 8, 50, 120
RATES = (0.003, 0.01, 0.03)
PENALTIES = (10.0, 100.0, 1000.0, 10_000.0)


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Columns seed, month, method, metric and value."""
    table = mulan.load("osales")
    page = Page(SECTION, {"seeds": len(seeds), "first_seed": seeds[0], "device": device})
    settings = {
        "split": SPLIT,
        "steps": steps,
        "width": WIDTH,
        "sampler": Mixed(BATCH),
        "validate_every": 10,
        "seeds": seeds,
    }
    rows = []

    def note(month: int, method: str, losses: Sequence[float]) -> None:
        rows.extend(
            {"seed": seed, "month": month, "method": method, "metric": "loss", "value": loss}
            for seed, loss in zip(seeds, losses, strict=True)
        )

    for month in (FIRST, LAST):
        data = cache(partial(products, table, month))
        setting = Setting(
            page=page, data=data, main="main", later=["others"], rates=RATES, settings=settings
        )
        found = {"alone": setting.alone(), "beside": setting.beside()}
        if month == FIRST:
            found["fed"] = setting.fed()[1]
            found["shuffled"] = setting.shuffled()
        for method, chosen in found.items():
            note(month, method, chosen.score("main", "loss").tolist())
    order = [f"month_{month}" for month in range(FIRST, LAST)]
    months = cache(partial(by_month, table))
    linear = linear_losses(months, seeds, SPLIT, f"month_{LAST}", order, PENALTIES)
    for method, losses in linear.items():
        if "ridge" in method:
            note(LAST, method, losses.tolist())
    return pd.DataFrame(rows)


def products(table: RawTable, month: int, seed: int) -> MultiTaskData:
    """The products in a seed's units: one month as the task `main`, all others as `others`."""
    sales = _logarithms(table)
    others = [number for number in range(sales.shape[1]) if number != month - 1]
    tasks = (Task.regression("main"), Task.regression("others", outputs=len(others)))
    return _scaled(table, tasks, {"main": sales[:, [month - 1]], "others": sales[:, others]}, seed)


def by_month(table: RawTable, seed: int) -> MultiTaskData:
    """The products in a seed's units: a task for each month."""
    sales = _logarithms(table)
    targets = {f"month_{n}": column[:, None] for n, column in enumerate(sales.T, start=1)}
    return _scaled(table, tuple(map(Task.regression, targets)), targets, seed)


def _logarithms(table: RawTable) -> torch.Tensor:
    """log(1 + sales), a column a month."""
    return torch.log1p(torch.cat([table.targets[task.name] for task in table.tasks], dim=1))


def _scaled(
    table: RawTable, tasks: tuple[Task, ...], targets: dict[str, torch.Tensor], seed: int
) -> MultiTaskData:
    every = torch.ones(len(table.inputs), dtype=torch.bool)
    labelled = dict.fromkeys(targets, every)
    return scaled(RawTable(tasks, table.inputs, targets, labelled), SPLIT, seed)
