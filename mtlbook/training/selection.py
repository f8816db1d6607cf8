"""Tuning on validation data: the same number of trials for a method and for its baselines."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from mtlbook.errors import UsageError
from mtlbook.training.results import Fit
from mtlbook.training.stopping import ROUNDING


@dataclass(frozen=True, eq=False)
class Selected:
    """The trials that won on validation data, seed by seed.

    Attributes:
        fits: every trial by its name.
        choices: a row a seed, a column a task: the name of the trial that was chosen for it.
    """

    fits: Mapping[str, Fit]
    choices: pd.DataFrame

    def score(
        self, task: str, metric: str | None = None, part: str = "test"
    ) -> Float[np.ndarray, " seeds"]:
        """A task's metric on a part of the data under each seed's chosen trial."""
        values = {name: fit.score(task, metric, part) for name, fit in self.fits.items()}
        chosen = self.choices[task]
        return np.array([values[name][row] for row, name in enumerate(chosen)])


def select(fits: Mapping[str, Fit], each_task: bool = False) -> Selected:
    """Choose for each seed the trial with the least validation loss; test data has no say.

    Arguments:
        fits: the trials by name: the same tasks, seeds and splits under different settings.
        each_task: choose for each task on its own (separate networks need not agree), or one trial
            for all tasks, by the mean over tasks of the loss relative to the best trial's.

    A trial whose loss is not finite loses to every trial whose loss is. A best loss of 0 has no
    relative loss: for that seed and task the trials' losses count as they are.

    Raises:
        UsageError: for no trial at all, for trials that differ in tasks or seeds, that have no
            validation part, or of which none has a finite validation loss for some seed.
    """
    if not fits:
        raise UsageError("There is no trial to choose from: give at least one.")
    first = next(iter(fits.values()))
    tasks = [task.name for task in first.tasks]
    for name, fit in fits.items():
        if fit.seeds != first.seeds or fit.tasks != first.tasks:
            raise UsageError(
                f"The trial {name!r} differs in tasks or seeds: compare like with like."
            )
    names = list(fits)
    losses = np.stack(
        [[fits[name].score(task, "loss", "validation") for task in tasks] for name in names]
    )  # (trials, tasks, seeds)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    if not each_task:
        losses = _mean_relative_loss(losses).repeat(len(tasks), axis=1)
    least = losses.min(0)
    if not np.isfinite(least).all():
        task, row = np.argwhere(~np.isfinite(least))[0]
        what = f"task {tasks[task]!r}" if each_task else "all tasks together"
        raise UsageError(
            f"No trial has a finite validation loss of {what} for seed {first.seeds[row]}: add "
            "trials with smaller learning rates."
        )
    # The first of those that are equal but for rounding, on every machine the same.
    winners = np.asarray(names, dtype=object)[(losses <= least + ROUNDING * abs(least)).argmax(0)]
    return Selected(fits, pd.DataFrame(winners.T, index=list(first.seeds), columns=tasks))


def _mean_relative_loss(
    losses: Float[np.ndarray, "trials tasks seeds"],
) -> Float[np.ndarray, "trials 1 seeds"]:
    """The mean over tasks of each loss divided by the best trial's, so that no task decides alone.

    A best loss of 0, which has no ratios, divides by 1.
    """
    best = losses.min(0)
    return (losses / np.where((best == 0) | np.isinf(best), 1.0, best)).mean(1, keepdims=True)
