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
from mtlbook.data.constructed import World
from mtlbook.data.images import LabelledImages
from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData, Split
from mtlbook.data.noisy_tasks import NoisyWorld

__all__ = [
    "Consecutive",
    "Holdout",
    "LabelledImages",
    "MultiTaskData",
    "NoisyWorld",
    "Split",
    "World",
    "constructed",
    "embedded",
    "mnist",
    "mulan",
    "nhanes",
    "noisy_tasks",
    "overlaid_digits",
    "registry",
    "scenes",
    "school",
    "shifted_digits",
    "sparse_tasks",
    "two_moons",
    "usps",
]
