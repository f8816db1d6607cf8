r"""Section 7.6: Caruana's Table 6 at 64 seeds, and metals in the soil as inputs or as outputs.

**Table 6** (Caruana, 1997, section 4.9): the target $\sigma(A + B)$ from 20 bits, with the feature
$\sigma(A - B)$ as an input, as an output, and as nothing; 50 training rows, 1,000 to choose and to
stop by, 1,000 to test on, drawn anew for each seed. The networks have 16 tanh units, his number,
and 128, since an output needs units of its own. He took early-stopped backpropagation and 50 trials
of data; here everyone takes 600 steps of Adam on all rows.

**jura** (Mulan): cadmium in 359 samples of soil of the Swiss Jura from their place, land use and
rock, 11 inputs. Chromium, nickel, lead and zinc of the same samples are the features. 100 training,
100 validation and 159 test rows; all is in units of a seed's training rows; 16 units, 150 steps.

Trials, of which the main task's least validation loss chooses one for each seed: features as inputs
or as nothing have two learning rates, features as outputs two λ, each with three L2 penalties on
Table 6 and with two on jura. `missing` is the error of the network with the features as inputs
where these are missing at test time and the training rows' means stand in their place. Metrics on
test rows: `root mean squared error` for Table 6, and for jura `loss`, the mean squared error.
Two minutes on one core. Fixed after pilots on seeds from 7000.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
import torch

from mtlbook.book.experiments.predicting_inputs import (
    ROLES,
    Setting,
    contestant,
    missing_at_test,
    mixed_rows,
    table_6,
)
from mtlbook.book.page import Page
from mtlbook.data import mulan
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.errors import UsageError

SECTION = "7.6"
DATA = ("mulan_mtr",)
SEEDS = 64

WIDTHS = (16, 128)
SPLIT = Consecutive(train=100, validation=100, test=159)
METALS = {"Cr": 11, "Ni": 12, "Pb": 13, "Zn": 14}


def run(seeds: Sequence[int], device: str, steps: int | None = None) -> pd.DataFrame:
    """Columns seed, data, width, role, metric and value."""
    # The contestants read their seeds and device from a page, which counts them up from the first.
    if list(seeds) != list(range(seeds[0], seeds[0] + len(seeds))):
        raise UsageError(f"The seeds of this study follow one another: {list(seeds)} do not.")
    bench = Page(SECTION, {"seeds": len(seeds), "first_seed": seeds[0], "device": device})
    rows: list[dict[str, Any]] = []
    for width in WIDTHS:
        setting = table_6(width=width, steps=steps or 600)
        about = {"data": "Table 6", "width": width}
        for role in ROLES:
            found = contestant(bench, setting, role).score(setting.main)
            rows += _rows(seeds, found, about | {"role": role, "metric": "root mean squared error"})
    setting = jura(steps or 150)
    about = {"data": "jura", "width": setting.width, "metric": "loss"}
    for role in ROLES:
        chosen = contestant(bench, setting, role)
        rows += _rows(seeds, chosen.score(setting.main, "loss"), about | {"role": role})
        if role == "input":
            missing = missing_at_test(bench, setting, chosen)
            rows += _rows(seeds, missing, about | {"role": "missing"})
    return pd.DataFrame(rows)


def jura(steps: int) -> Setting:
    """Cadmium as the only task, in units of a seed's training rows."""
    table = mulan.load("jura")
    cadmium = next(task for task in table.tasks if task.name == "Cd")

    @cache
    def data(seed: int) -> MultiTaskData:
        whole = mixed_rows(table, SPLIT, seed)
        return whole.subset(torch.arange(whole.rows), tasks=[cadmium])

    return Setting(data=data, main=cadmium.name, columns=METALS, split=SPLIT, steps=steps)


def _rows(seeds: Sequence[int], values: Any, about: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"seed": seed} | about | {"value": float(value)}
        for seed, value in zip(seeds, values, strict=True)
    ]
