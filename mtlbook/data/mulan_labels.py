"""Mulan's multi-label sets: tables of binary labels on the same inputs, here `yeast`.

`yeast` (Elisseeff and Weston, 2001): 2,417 genes, 103 measurements of each (expression in
microarrays and phylogenetic profiles), and 14 functional classes, of which a gene has 4.2 on
average. In Weka's ARFF format with the labels as the last columns, in a training and a test file
that belong together.
"""

from pathlib import Path

import torch
from scipy.io import arff

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.registry import fetch
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

# How many of the last columns are labels: the files themselves do not say.
LABELS = {"yeast": 14}


def load(name: str) -> MultiTaskData:
    """One of the sets in `LABELS`, a binary task for each label, downloaded at the first call.

    The rows of the training file come first.

    Raises:
        UsageError: for an unknown set, with the names that there are.
    """
    if name not in LABELS:
        raise UsageError(f"There is no multi-label set {name!r}: choose {', '.join(LABELS)}.")
    folder = fetch("mulan_ml")
    return read([folder / f"{name}-{part}.arff" for part in ("train", "test")], LABELS[name])


def read(files: list[Path], labels: int) -> MultiTaskData:
    """ARFF tables of equal columns as one; the last ones are labels, 0 or 1."""
    inputs, targets, names = [], [], []
    for file in files:
        table, attributes = arff.loadarff(file)
        names = [name.lower() for name in attributes.names()]
        columns = [torch.tensor(table[name].astype("float64")) for name in attributes.names()]
        inputs.append(torch.stack(columns[:-labels], dim=1))
        targets.append(torch.stack(columns[-labels:], dim=1))
    joined = torch.cat(targets)
    tasks = [Task.binary(name) for name in names[-labels:]]
    by_task = {task.name: joined[:, column] for column, task in enumerate(tasks)}
    return MultiTaskData.multi_label(tasks, torch.cat(inputs), by_task)
