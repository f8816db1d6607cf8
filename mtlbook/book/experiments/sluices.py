"""Section 6.8: networks of columns from one start, and what a trained sluice network shares."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlbook.architectures import cross_stitch as stitching
from mtlbook.architectures import sluice_networks as sluicing
from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.book.experiments.networks import Stages, linear_head
from mtlbook.data.multi_task_data import MultiTaskData


def from_one_start(stages: Stages) -> Stages:
    """Stages that are copies of the first that were made, so that the columns' units correspond."""
    first: list[nn.Module] = []

    def copied() -> list[nn.Module]:
        if not first:
            first.extend(stages())
        return deepcopy(first)

    return copied
