"""Adult census income: 48,842 people of the United States in 1994, three questions about each.

The set of Becker and Kohavi (UCI, 1996), both files together. It is a smaller relative of the
*Census-Income (KDD)* set on which Ma et al. (2018) and Tang et al. (2020) compare mixtures of
experts: their pairs of tasks can be asked here, and their numbers not be compared.

**Columns that leak.** `relationship` tells the marital status (nobody who is a husband or a wife
was never married), and `education-num` is `education` in numbers. Neither is an input, nor are the
three columns that are predicted. `fnlwgt`, a weight of the survey's, is left out, too.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.registry import fetch
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

TASKS = ("income", "never_married", "college")

NUMBERS = ("age", "hours-per-week")
# Nine in ten are 0, and the rest reach 99,999: they enter as log(1 + x).
SKEWED = ("capital-gain", "capital-loss")
KINDS = ("workclass", "occupation", "race", "sex", "native-country")
TARGETS = ("income", "marital-status", "education")
LEAKS = ("relationship", "education-num")
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "income",
)  # fmt: skip
# "At least college", as Ma et al. have it, without saying which degrees.
COLLEGE = ("Bachelors", "Masters", "Doctorate", "Prof-school")


def load(*tasks: str) -> MultiTaskData:
    """The 48,842 people, each labelled for every task, downloaded at the first call.

    Inputs are four numbers (age, hours a week, and the logarithms of capital gain and loss) and the
    one-hot codes of five kinds (class of work, occupation, race, sex, native country; "?" is a kind
    of its own). All are in their own units: `mtlbook.data.scaling.scaled` scales the first four by
    `columns=adult.MEASURED`.

    Arguments:
        tasks: some of `TASKS`, by default the first two: `income` (above 50,000 dollars a year),
            `never_married`, and `college` (a bachelor's degree or more). All are binary, measured
            by the area under the curve.
    """
    folder = fetch("adult")
    return from_people(read_people([folder / "adult.data", folder / "adult.test"]), tasks)


MEASURED = slice(0, len(NUMBERS) + len(SKEWED))


def read_people(files: Sequence[Path]) -> pd.DataFrame:
    """The rows of the published files; one of them begins with a line that is none."""
    tables = [
        pd.read_csv(file, names=list(COLUMNS), skipinitialspace=True, comment="|", dtype=str)
        for file in files
    ]
    return pd.concat(tables, ignore_index=True)


def from_people(people: pd.DataFrame, tasks: Sequence[str] = ()) -> MultiTaskData:
    """Inputs without what leaks, and a label for each task; see `load`."""
    chosen = tuple(tasks) or TASKS[:2]
    for name in chosen:
        if name not in TASKS:
            raise UsageError(
                f"There is no task {name!r} of the adult census: choose one of {', '.join(TASKS)}."
            )
    labels = {
        # The second file ends each income with a full stop.
        "income": people["income"].str.startswith(">50K"),
        "never_married": people["marital-status"] == "Never-married",
        "college": people["education"].isin(COLLEGE),
    }
    numbers = people.loc[:, [*NUMBERS, *SKEWED]].to_numpy(np.float64)
    numbers[:, len(NUMBERS) :] = np.log1p(numbers[:, len(NUMBERS) :])
    codes = pd.get_dummies(people.loc[:, list(KINDS)]).to_numpy(np.float64)
    return MultiTaskData.multi_label(
        [Task.binary(name, metric="area under the curve") for name in chosen],
        torch.from_numpy(np.concatenate([numbers, codes], axis=1)),
        {name: torch.from_numpy(labels[name].to_numpy(np.float64))[:, None] for name in chosen},
    )
