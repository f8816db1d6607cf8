"""Data: embedded, constructed and downloaded sets, all of one shape."""

from mtlbook.data import (
    constructed,
    embedded,
    mnist,
    mulan,
    nhanes,
    overlaid_digits,
    registry,
    scenes,
    school,
    shifted_digits,
    usps,
)
from mtlbook.data.constructed import World
from mtlbook.data.images import LabelledImages
from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData, Split

__all__ = [
    "Consecutive",
    "Holdout",
    "LabelledImages",
    "MultiTaskData",
    "Split",
    "World",
    "constructed",
    "embedded",
    "mnist",
    "mulan",
    "nhanes",
    "overlaid_digits",
    "registry",
    "scenes",
    "school",
    "shifted_digits",
    "usps",
]
