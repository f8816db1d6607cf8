"""How a network is trained: one object for `fit` and for the trials of a search."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlbook.data.multi_task_data import PARTS, Holdout
from mtlbook.training.sampling import Balanced, Mixed, RoundRobin

Optimiser = Callable[[list[tuple[str, Tensor]]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Trial:
    """What one trial of a search changes of the settings: optimiser and combiner."""

    optimiser: Optimiser | None = None
    combiner: nn.Module | None = None


@dataclass(frozen=True)
class Settings:
    """The settings of one training."""

    tasks: Sequence[str] | None = None
    split: Holdout | None = None
    steps: int = 1000
    sampler: Mixed | Balanced | RoundRobin = Mixed(32)  # noqa: RUF009
    learning_rate: float | None = None
    optimiser: Optimiser | None = None
    schedule: Callable[[float], float] | None = None
    combiner: nn.Module | None = None
    regulariser: Callable[[nn.Module, Any], Tensor] | None = None
    after_step: Callable[[nn.Module, Any], Mapping[str, Tensor]] | None = None
    start: Any = None
    stopping: str | None = "sum"
    patience: int | None = None
    validate_every: int | None = None
    evaluate_on: Sequence[str] = PARTS
    device: str | torch.device = "auto"
    dtype: torch.dtype = torch.float64
    vectorise: bool = True
    progress_label: str = "training"
