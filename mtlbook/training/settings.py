"""The settings of a training, one frozen value for `fit` and `fit_trials`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.combiner import Combiner
from mtlbook.data.multi_task_data import PARTS, Holdout
from mtlbook.errors import UsageError
from mtlbook.training.context import Penalty, StepContext
from mtlbook.training.objective import Objective
from mtlbook.training.sampling import Mixed, Sampler

if TYPE_CHECKING:
    from mtlbook.training.results import Evaluation, Fit

# From named parameters, each stacked over the seeds (seeds first), to an optimiser of them.
Optimiser = Callable[[list[tuple[str, Tensor]]], torch.optim.Optimizer]
AfterStep = Callable[[nn.Module, StepContext], Mapping[str, Tensor]]
# From each task's validation loss to the one number that decides which weights are kept.
Criterion = Callable[[Mapping[str, Float[Tensor, " replicas"]]], Float[Tensor, " replicas"]]

LEARNING_RATE = 1e-3  # of Adam, the default optimiser


@dataclass(frozen=True)
class Trial:
    """What one trial of `fit_trials` has of its own; all else is that of the settings.

    Attributes:
        optimiser: as in `Settings`; None for the settings' own.
        combiner: as in `Settings`; None for the settings' own.
    """

    optimiser: Optimiser | None = None
    combiner: Combiner | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a training goes: what is seen, what is minimised, when it stops, and where it runs.

    Attributes:
        tasks: the tasks to train and test, in this order; by default all of the data's. The split
            is that of the whole data, so that training for one task and for several see the same
            rows.
        split: how rows are divided; by default 60, 20 and 20 %.
        steps: optimiser steps at most.
        sampler: which rows each step learns from, of which tasks.
        learning_rate: of Adam, the default optimiser; 0.001 by default.
        optimiser: makes an optimiser from named parameters, each stacked over the seeds (seeds
            first): `partial(torch.optim.SGD, lr=0.1)`. Names begin with `model.` or `combiner.`.
        schedule: the learning rate as a multiple of the optimiser's own, a function of the share
            of the training that is done.
        clip: the largest norm of a replica's gradient; longer ones are shortened to it.
        combiner: how the task losses, or their gradients, are combined; by default they are added.
        objective: the losses of a step; by default each task's mean loss over its labelled rows.
        regulariser: a penalty computed from the model and the step's context, added to the loss.
        after_step: new values, by name, of some of the model's parameters or buffers, computed
            after each step: a proximal map, a covariance update.
        start: an earlier training from whose weights each seed goes on, or a function that changes
            a fresh model in place, given its seed (to start from some trained weights).
        stopping: which weights are kept: those with the least validation loss, as the mean over
            tasks relative to the untrained network's (`relative`), as the sum over tasks (`sum`),
            of one task (its name), for each task its own (`each`), or by a function of the task
            losses; None for the last ones.
        patience: evaluations without improvement after which a seed stops; None to take all steps.
        validate_every: steps between two evaluations, by default a fiftieth of all.
        evaluate_on: the parts of the data that the results tell of; leaving out one that nobody
            asks for saves its predictions.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; the random numbers are the same on each.
        dtype: float64 by default, which gives the same digits on every machine.
        vectorise: False trains one seed after another, for models that `vmap` cannot take.
        callbacks: called after each evaluation with an `Evaluation`.
        progress_label: what the progress bar says.

    Raises:
        UsageError: for a setting that is impossible, or that another one would silence.
    """

    tasks: Sequence[str] | None = None
    split: Holdout = field(default_factory=Holdout)
    steps: int = 1000
    sampler: Sampler = field(default_factory=Mixed)
    learning_rate: float | None = None
    optimiser: Optimiser | None = None
    schedule: Callable[[float], float] | None = None
    clip: float | None = None
    combiner: Combiner | None = None
    objective: Objective | None = None
    regulariser: Penalty | None = None
    after_step: AfterStep | None = None
    start: "Fit | Callable[[nn.Module, int], None] | None" = None
    stopping: str | Criterion | None = "relative"
    patience: int | None = None
    validate_every: int | None = None
    evaluate_on: Sequence[str] = PARTS
    device: str | torch.device = "auto"
    dtype: torch.dtype = torch.float64
    vectorise: bool = True
    callbacks: "Sequence[Callable[[Evaluation], None]]" = ()
    progress_label: str = "training"

    def __post_init__(self) -> None:
        for name in ("steps", "validate_every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}.")
        if self.clip is not None and not self.clip > 0:
            raise UsageError(f"clip is a norm above 0, or None, not {self.clip}.")
        if not self.evaluate_on or set(self.evaluate_on) - set(PARTS):
            raise UsageError(
                f"evaluate_on names parts of the data among {list(PARTS)}: {self.evaluate_on}."
            )
        if self.optimiser is not None and self.learning_rate is not None:
            raise UsageError(
                "learning_rate is that of the default optimiser: give it to your own, "
                "optimiser=partial(torch.optim.SGD, lr=0.1)."
            )
        if self.stopping is None and self.patience is not None:
            raise UsageError("With stopping=None no loss is waited for: leave patience out.")

    @property
    def interval(self) -> int:
        """Steps between two evaluations."""
        return self.validate_every or max(1, self.steps // 50)

    def default_optimiser(self, named: list[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        """Adam with the settings' learning rate."""
        rate = LEARNING_RATE if self.learning_rate is None else self.learning_rate
        return torch.optim.Adam(named, lr=rate, fused=True)
