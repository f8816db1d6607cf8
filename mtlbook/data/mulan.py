"""Mulan's multi-target regression sets: 14 tables of two to sixteen targets on the same inputs.

Collected by Spyromitros-Xioufis, Tsoumakas, Groves and Vlahavas (2016, *Multi-target regression
via input space expansion*, Table 1), in Weka's ARFF format with the targets as the last columns.

In the solar flares `sf1` and `sf2`, inputs repeat: of a random fifth of the rows 60 and 85 % have
inputs that also occur in the other rows. Split them by `splits.GroupHoldout` with the groups of
`splits.equal_inputs`.
"""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.io import arff
from torch import Tensor

from mtlbook.data.registry import fetch
from mtlbook.data.scaling import RawTable
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

# How many of the last columns are targets: the files themselves do not say.
TARGETS = {
    "andro": 6,
    "atp1d": 6,
    "atp7d": 6,
    "edm": 2,
    "enb": 2,
    "jura": 3,
    "oes10": 16,
    "oes97": 16,
    "osales": 12,
    "scpf": 3,
    "sf1": 3,
    "sf2": 3,
    "slump": 3,
    "wq": 14,
}


def load(name: str) -> RawTable:
    """One of the sets in `TARGETS`, a regression for each target, downloaded at the first call.

    Inputs and targets are in their own units, a missing value (`?`) of a numeric input NaN:
    `mtlbook.data.scaling.scaled` fills and scales them with what a seed's training rows say. A
    nominal input becomes one column for each of its values, all of them 0 where it is missing. A
    row whose target is missing is not labelled for that task.

    Arguments:
        name: of the set, for example `enb`.

    Raises:
        UsageError: for an unknown set, with the names that there are.
    """
    if name not in TARGETS:
        raise UsageError(f"There is no Mulan set {name!r}: choose one of {', '.join(TARGETS)}.")
    return read_arff(fetch("mulan_mtr") / f"{name}.arff", TARGETS[name])


def read_arff(file: Path, targets: int) -> RawTable:
    """An ARFF table whose last columns are the targets; see `load`."""
    table, attributes = arff.loadarff(file)
    names = attributes.names()
    columns = []
    for name in names[:-targets]:
        kind, values = attributes[name]
        nominal = kind == "nominal"
        columns.append(_one_hot(table[name], values) if nominal else _column(table[name]))
    measured = {_identifier(name): _column(table[name]) for name in names[-targets:]}
    labelled = {name: ~torch.isnan(values[:, 0]) for name, values in measured.items()}
    tasks = tuple(map(Task.regression, measured))
    return RawTable(tasks, torch.cat(columns, dim=1), measured, labelled)


def _column(values: np.ndarray) -> Float[Tensor, "rows 1"]:
    # A copy: the columns of a record array are strided in ways that torch can't be.
    return torch.from_numpy(values.astype(np.float64))[:, None]


def _one_hot(values: np.ndarray, possible: tuple[str, ...]) -> Float[Tensor, "rows values"]:
    """A nominal column as one 0-or-1 column for each possible value."""
    matches = values[:, None] == np.array([value.encode() for value in possible])
    return torch.from_numpy(matches.astype(np.float64))


def _identifier(name: str) -> str:
    """An attribute's name as a task's: `59300` becomes `target_59300`, `c-class` `c_class`."""
    plain = re.sub(r"\W+", "_", name).strip("_")
    return plain if plain.isidentifier() else f"target_{plain}"
