"""Mulan's multi-target regression sets: 14 tables of two to sixteen targets on the same inputs.

Collected by Spyromitros-Xioufis, Tsoumakas, Groves and Vlahavas (2016, *Multi-target regression
via input space expansion*, Table 1), in Weka's ARFF format with the targets as the last columns.
"""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.io import arff
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.registry import fetch
from mtlbook.data.scaling import standardised
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


def load(name: str, standardise_targets: bool = True) -> MultiTaskData:
    """One of the sets in `TARGETS`, a regression for each target, downloaded at the first call.

    Inputs are standardised over the whole table, as those of the embedded tables are. A missing
    value (`?`) of a numeric input is replaced by the mean of the column's known values, which is 0
    after scaling; a nominal input becomes one column for each of its values, all of them 0 where
    it is missing. A row whose target is missing is not labelled for that task.

    Arguments:
        name: of the set, for example `enb`.
        standardise_targets: predict in units of the standard deviation of the known targets.

    Raises:
        UsageError: for an unknown set, with the names that there are.
    """
    if name not in TARGETS:
        raise UsageError(f"There is no Mulan set {name!r}: choose one of {', '.join(TARGETS)}.")
    return read_arff(fetch("mulan_mtr") / f"{name}.arff", TARGETS[name], standardise_targets)


def read_arff(file: Path, targets: int, standardise_targets: bool = True) -> MultiTaskData:
    """An ARFF table whose last columns are the targets; see `load`."""
    table, attributes = arff.loadarff(file)
    names = attributes.names()
    columns = []
    for name in names[:-targets]:
        kind, values = attributes[name]
        columns.append(_one_hot(table[name], values) if kind == "nominal" else _known(table[name]))
    measured = {_identifier(name): _tensor(table[name]) for name in names[-targets:]}
    labelled = {name: ~torch.isnan(values) for name, values in measured.items()}
    return MultiTaskData.partial(
        [Task.regression(name) for name in measured],
        standardised(torch.cat(columns, dim=1)),
        {
            name: _scaled(values, labelled[name]) if standardise_targets else values
            for name, values in measured.items()
        },
        labelled,
    )


def _tensor(values: np.ndarray) -> Float[Tensor, " rows"]:
    # A copy: the columns of a record array are strided in ways that torch can't be.
    return torch.from_numpy(values.astype(np.float64))


def _known(values: np.ndarray) -> Float[Tensor, "rows 1"]:
    """A numeric column with its missing values replaced by the mean of the known ones."""
    column = _tensor(values)[:, None]
    return torch.where(torch.isnan(column), column.nanmean(), column)


def _one_hot(values: np.ndarray, possible: tuple[str, ...]) -> Float[Tensor, "rows values"]:
    """A nominal column as one 0-or-1 column for each possible value."""
    matches = values[:, None] == np.array([value.encode() for value in possible])
    return torch.from_numpy(matches.astype(np.float64))


def _scaled(values: Float[Tensor, " rows"], known: Bool[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    scaled = values.clone()
    scaled[known] = standardised(values[known][:, None])[:, 0]
    return scaled


def _identifier(name: str) -> str:
    """An attribute's name as a task's: `59300` becomes `target_59300`, `c-class` `c_class`."""
    plain = re.sub(r"\W+", "_", name).strip("_")
    return plain if plain.isidentifier() else f"target_{plain}"
