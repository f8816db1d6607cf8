"""Data: embedded, constructed and downloaded sets, all of one shape, each in a file of its own."""

from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData, Split
from mtlbook.data.scaling import RawTable, scaled
from mtlbook.data.splits import GroupHoldout
from mtlbook.data.synthetic import SyntheticDataset

__all__ = [
    "Consecutive",
    "GroupHoldout",
    "Holdout",
    "MultiTaskData",
    "RawTable",
    "Split",
    "SyntheticDataset",
    "scaled",
]
