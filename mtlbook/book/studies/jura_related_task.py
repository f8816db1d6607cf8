"""Section 7.1 on the Swiss Jura: cadmium in the soil beside cobalt and copper.

Data: 359 places (`mtlbook.data.mulan`, set `jura`; Goovaerts, 1997), with position, land use, rock,
and four metals as 15 inputs. The main task is the concentration of cadmium, the auxiliary ones are
those of cobalt and copper: the problem that this set is known for, a metal that is measured at few
places and others at more.

Each seed draws 200 training, 60 validation and 99 test rows. Cadmium is known at n = 30 of the
training rows, cobalt and copper at all, n′ = 200. Inputs and targets are in units of the training
rows; the split is random, so that test places lie between training places.

Contestants, each with eight trials of AdamW in 200 steps, on a network with one hidden layer of 16
tanh units, chosen and stopped by the validation loss of cadmium:

* *single-task*: two learning rates by four weight decays;
* *related*: four λ (0.015 to 1 for losses summed over rows) by two decays;
* *same rows*: the same, cobalt and copper known only where cadmium is: labels, but no rows;
* *λ = 1*: each row counts alike; two rates by four decays;
* *own stopping*: as *related*, with task-wise early stopping;
* *labels shuffled*: as *related*, cobalt and copper permuted among the places.

Measured on the test rows: the `mean squared error` of cadmium in units of its training labels'
variance. About half a minute on one core. Fixed after pilots on seeds from 7000.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.book.experiments.auxiliary_tasks import equal_trials
from mtlbook.book.experiments.related_task import Setting, joint, single, with_own_stopping
from mtlbook.book.page import Page
from mtlbook.data import mulan
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled

SECTION = "7.1"
DATA = ("mulan_mtr",)
SEEDS = 32

MAIN, AUXILIARIES = "Cd", ("Co", "Cu")
ROWS, TRAIN, VALIDATION, TEST = 30, 200, 60, 99
STEPS = 200


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Columns seed, method, metric and value: the mean squared error of cadmium."""
    page = Page(SECTION, {"seeds": len(seeds), "first_seed": seeds[0], "device": device})
    places = mulan.load("jura")
    own = partial(setting, places, steps=steps)
    found = {
        "single-task": single(page, own()),
        "related": joint(page, own()),
        "same rows": joint(page, own(related_rows=ROWS)),
        "λ = 1": joint(page, own(), 1.0),
        "own stopping": with_own_stopping(page, own()),
        "labels shuffled": joint(page, own(mixed_up=True)),
    }
    equal_trials(*found.values())
    rows = [
        (seed, method, "mean squared error", value)
        for method, chosen in found.items()
        for seed, value in zip(seeds, chosen.score(MAIN, "loss"), strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "metric", "value"])


def setting(
    places: RawTable,
    *,
    related_rows: int | None = None,
    mixed_up: bool = False,
    steps: int = STEPS,
) -> Setting:
    """Cadmium at few places, the other metals at more.

    Arguments:
        places: the table.
        related_rows: at how many training places the other metals are known, by default all.
        mixed_up: the other metals are permuted among the places.
        steps: of training.
    """
    known = {MAIN: ROWS} | dict.fromkeys(AUXILIARIES, related_rows or TRAIN)
    split = Holdout(TRAIN, VALIDATION, TEST, labels=known)

    def data(seed: int) -> MultiTaskData:
        found = scaled(places, split, seed)
        for name in AUXILIARIES if mixed_up else ():
            found = shuffled(found, name, seed)
        return found

    return Setting(
        data=data,
        main=MAIN,
        auxiliaries=list(AUXILIARIES),
        rows=ROWS,
        related_rows=related_rows or TRAIN,
        split=split,
        batch=16,
        steps=steps,
    )
