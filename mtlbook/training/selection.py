"""Tuning on validation data: the same number of trials for a method and for its baselines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from mtlbook.errors import UsageError
from mtlbook.training.fit import ROUNDING, Fit, Optimiser


def adamw_grid(rates: Iterable[float], decays: Iterable[float]) -> dict[str, Optimiser]:
    """AdamW with each learning rate and each weight decay, by name: trials for `fit_trials`.

    Example:
        >>> list(adamw_grid(rates=[0.03, 0.1], decays=[1.0]))
        ['rate 0.03, decay 1', 'rate 0.1, decay 1']
    """
    return {
        f"rate {rate:g}, decay {decay:g}": partial(
            torch.optim.AdamW, lr=rate, weight_decay=decay, fused=True
        )
        for rate, decay in product(rates, decays)
    }


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

    Raises:
        UsageError: for trials that differ in tasks or seeds, or that have no validation part.
    """
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
    if not each_task:
        # Relative to the best trial, so that a task with a large loss does not decide alone.
        losses = (losses / losses.min(0)).mean(1, keepdims=True).repeat(len(tasks), axis=1)
    # The first of those that are equal but for rounding, on every machine the same.
    least = losses.min(0)
    winners = np.asarray(names, dtype=object)[(losses <= least + ROUNDING * abs(least)).argmax(0)]
    return Selected(fits, pd.DataFrame(winners.T, index=list(first.seeds), columns=tasks))
