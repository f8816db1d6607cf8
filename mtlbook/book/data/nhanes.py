"""NHANES 2017-2018: nine questions about depression, beside measures of body and blood.

The National Health and Nutrition Examination Survey of the United States asks adults the nine
items of the PHQ-9 (Kroenke, Spitzer and Williams, 2001, *The PHQ-9: validity of a brief depression
severity measure*): over the last two weeks, how often was one bothered by ..., from 0, not at all,
to 3, nearly every day. A sum of at least 10 is the usual threshold of the screening. The sum is
made of the items, so that nine tasks surround the one that decides.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mtlbook.data.registry import fetch
from mtlbook.data.scaling import RawTable
from mtlbook.tasks import Task

ITEMS = {
    "DPQ010": "interest",
    "DPQ020": "mood",
    "DPQ030": "sleep",
    "DPQ040": "energy",
    "DPQ050": "appetite",
    "DPQ060": "self_worth",
    "DPQ070": "concentration",
    "DPQ080": "movement",
    "DPQ090": "self_harm",
}
MOST = 3  # The answers above, 7 and 9, are refused and don't know.
THRESHOLD = 10

PERSON = ("RIDAGEYR", "RIAGENDR", "INDFMPIR")
BODY = (
    "BMXWT", "BMXHT", "BMXBMI", "BMXLEG", "BMXARML", "BMXARMC", "BMXWAIST", "BMXHIP",
)  # fmt: skip
BLOOD = (
    "LBXWBCSI", "LBXLYPCT", "LBXMOPCT", "LBXNEPCT", "LBXEOPCT", "LBXBAPCT", "LBXRBCSI", "LBXHGB",
    "LBXHCT", "LBXMCVSI", "LBXMCHSI", "LBXMC", "LBXRDW", "LBXPLTSI", "LBXMPSI",
)  # fmt: skip
# Concentrations with a long tail, which enter by their logarithm. Glucose and insulin were taken
# from a fasting third of the people only.
SKEWED = ("LBXHSCRP", "LBXGLU", "LBXIN")

_TABLES = {
    "DEMO_J": PERSON,
    "DPQ_J": tuple(ITEMS),
    "BMX_J": BODY,
    "CBC_J": BLOOD,
    "HSCRP_J": SKEWED[:1],
    "GLU_J": SKEWED[1:2],
    "INS_J": SKEWED[2:],
}


def load() -> RawTable:
    """The 5,068 adults who answered all nine items, downloaded at the first call.

    Inputs are age, sex, income relative to poverty, eight measures of the body and eighteen of the
    blood, and a column for each set of measures that are missing together, which says where (0 or
    1). All are in their own units, missing measures NaN: `mtlbook.data.scaling.scaled` fills and
    scales them with what a seed's training rows say.

    Returns:
        Nine regressions, a PHQ-9 item from 0 to 3 each, and the binary task `diagnosis` (sum at
        least 10). Every row carries every label.
    """
    folder = fetch("nhanes_2017")
    return from_people(
        read_people({folder / f"{name}.xpt": columns for name, columns in _TABLES.items()})
    )


def read_people(files: Mapping[Path, Sequence[str]]) -> pd.DataFrame:
    """These columns of the tables, joined on the number of the person; the first table's people."""
    first, *others = (
        pd.DataFrame(pd.read_sas(file, format="xport")).set_index("SEQN").loc[:, list(columns)]
        for file, columns in files.items()
    )
    # A 0 of the format is read as 5e-79.
    return first.join(others).mask(lambda cells: cells.abs() < 1e-70, 0.0)


def from_people(people: pd.DataFrame) -> RawTable:
    """A row for each person who answered all nine items; see `load`."""
    answers = people.loc[:, list(ITEMS)].to_numpy(np.float64)
    answered = (answers <= MOST).all(axis=1)  # False for a missing answer, too
    raw = people.loc[answered, [*PERSON, *BODY, *BLOOD]].to_numpy(np.float64)
    tails = np.log(people.loc[answered, list(SKEWED)].to_numpy(np.float64))
    measures = np.concatenate([raw, tails], axis=1)
    missing = np.isnan(measures)
    marks = np.unique(missing[:, missing.any(axis=0)], axis=1)
    scores = torch.from_numpy(answers[answered])
    targets = dict(zip(ITEMS.values(), scores[:, None].unbind(2), strict=True))
    every = torch.ones(len(scores), dtype=torch.bool)
    return RawTable(
        (*map(Task.regression, targets), Task.binary("diagnosis")),
        torch.from_numpy(np.concatenate([measures, marks], axis=1)),
        targets | {"diagnosis": (scores.sum(1, keepdim=True) >= THRESHOLD).double()},
        dict.fromkeys([*targets, "diagnosis"], every),
    )
