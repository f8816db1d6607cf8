"""Data: embedded, constructed and downloaded sets, all of one shape."""

from mtlbook.data import (
    constructed,
    embedded,
    mnist,
    mulan,
    nhanes,
    noisy_tasks,
    overlaid_digits,
    registry,
    scenes,
    school,
    shifted_digits,
    sparse_tasks,
    two_moons,
    usps,
)
from mtlbook.data.images import LabelledImages
from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData, Split
from mtlbook.data.scaling import RawTable, scaled
from mtlbook.data.splits import GroupHoldout
from mtlbook.data.synthetic import SyntheticDataset

__all__ = [
    "Consecutive",
    "GroupHoldout",
    "Holdout",
    "LabelledImages",
    "MultiTaskData",
    "RawTable",
    "Split",
    "SyntheticDataset",
    "constructed",
    "embedded",
    "mnist",
    "mulan",
    "nhanes",
    "noisy_tasks",
    "overlaid_digits",
    "registry",
    "scaled",
    "scenes",
    "school",
    "shifted_digits",
    "sparse_tasks",
    "two_moons",
    "usps",
]
