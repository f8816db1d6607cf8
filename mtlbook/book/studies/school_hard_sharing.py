"""Section 3.1 on School: the error of two schools as others join them in one trunk.

Predicting a student's score is a task in each school. The page of section 3.1 asks what company is
worth on constructed tasks and on digits; this study asks it of 15,362 students in London.

Protocol. The tasks are the 16 largest of the 139 schools. Each seed draws 50 students of each for
training, 50 for validation and 60 for the test, anew for each seed and the same for every number of
schools. Inputs and scores are standardised once, by the training students of all 16 schools.
Measured is the mean squared error of the two largest schools, in units of the scores' variance,
averaged over both.

* *Hard sharing*: the N = 2, 4, 8 or 16 largest schools share one hidden tanh layer; a linear head a
  school. Trials: 8 or 64 units, learning rates 0.01 and 0.03 of Adam, 150 steps on a tenth of the
  training students each.
* *Single-task networks* (N = 1): the same for each of the two schools alone, with the same trials.
* *Single-task ridge regression* for each of the two schools alone, λ one of nine values.

Trial, λ and stopping point are chosen by the validation students of the two schools alone, for each
of the two on its own (a shared network stops by their sum).
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.linear_model import Ridge
from torch import Tensor

from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import adam
from mtlbook.data import Holdout, MultiTaskData, school
from mtlbook.tasks import Task
from mtlbook.training.fit import fit_trials
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select
from mtlbook.training.settings import Settings, Trial

SECTION = "3.1"
DATA = ("school",)
SEEDS = 32

COUNTS = (1, 2, 4, 8, 16)
SPLIT = Holdout(train=50, validation=50, test=60)
WIDTHS = (8, 64)
RATES = (0.01, 0.03)
STEPS = 150
PENALTIES = tuple(10.0**power for power in range(-4, 5))


def run(
    seeds: Sequence[int],
    device: str,
    *,
    counts: Sequence[int] = COUNTS,
    split: Holdout = SPLIT,
    steps: int = STEPS,
) -> pd.DataFrame:
    """Columns seed, method, schools (N), metric, value: the mean squared error of two schools."""
    schools = largest(school.load(), max(counts))

    @cache
    def data(seed: int) -> MultiTaskData:
        return school.scaled(schools, split, seed)

    errors: dict[tuple[str, int], Sequence[float]] = {
        ("network", count): list(networks(data, seeds, count, split, steps, device))
        for count in counts
    }
    errors["ridge", 1] = [ridge(data(seed), split, seed) for seed in seeds]
    rows = [
        (seed, method, count, "mean squared error", value)
        for (method, count), values in errors.items()
        for seed, value in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "schools", "metric", "value"])


def networks(
    data: Any, seeds: Sequence[int], count: int, split: Holdout, steps: int, device: str
) -> Float[np.ndarray, " seeds"]:
    """The error of the two largest schools in a trunk of so many, or each in its own (1)."""
    names = [task.name for task in data(seeds[0]).tasks[: max(count, 2)]]
    alone = {"branch_at": 0} if count == 1 else {}
    settings = Settings(
        tasks=names,
        split=split,
        steps=steps,
        sampler=Mixed(max(1, len(names) * int(split.train) // 10)),
        validate_every=max(1, steps // 10),
        patience=4,
        stopping="each" if count == 1 else first_two,
        evaluate_on=("validation", "test"),
        device=device,
        progress_label=f"{count} schools",
    )
    fits = {}
    for width in WIDTHS:
        trials = {f"{width} units, rate {rate:g}": Trial(adam(rate)) for rate in RATES}
        build = partial(mlp, width=width, **alone)
        fits |= fit_trials(build, data, seeds=seeds, trials=trials, settings=settings)
    chosen = select(fits, each_task=True)
    return np.mean([chosen.score(name) for name in names[:2]], axis=0)


def first_two(losses: Mapping[str, Tensor]) -> Tensor:
    """The validation loss of the two schools that are measured."""
    first, second = list(losses.values())[:2]
    return first + second


def ridge(data: MultiTaskData, split: Holdout, seed: int) -> float:
    """The error of the two largest schools by ridge regressions of their own."""
    drawn = split.draw(data, seed)
    inputs, errors = torch.as_tensor(data.inputs), []
    for task in data.tasks[:2]:
        labelled = data.labelled[task.name]
        parts = [rows[labelled[rows]] for rows in (drawn.train, drawn.validation, drawn.test)]
        train, validation, test = (
            (inputs[rows].numpy(), data.targets[task.name][rows, 0].numpy()) for rows in parts
        )
        models = [Ridge(alpha=penalty).fit(*train) for penalty in PENALTIES]
        best = min(models, key=lambda model: squared_error(model, *validation))
        errors.append(squared_error(best, *test))
    return float(np.mean(errors))


def squared_error(model: Ridge, inputs: np.ndarray, targets: np.ndarray) -> float:
    """The mean squared error of a model."""
    return float(np.mean((model.predict(inputs) - targets) ** 2))


def largest(data: MultiTaskData, count: int) -> MultiTaskData:
    """The data sets with the most rows, largest first, as regressions with the squared error.

    Example:
        >>> sets = {
        ...     Task.regression(name): (torch.ones(rows, 2), torch.ones(rows, 1))
        ...     for name, rows in {"few": 2, "many": 5, "some": 3}.items()
        ... }
        >>> [task.name for task in largest(MultiTaskData.several(sets), 2).tasks]
        ['many', 'some']
    """
    names = sorted(data.labelled, key=lambda name: -int(data.labelled[name].sum()))[:count]
    inputs = torch.as_tensor(data.inputs)
    return MultiTaskData.several(
        {
            Task.regression(name): (inputs[own], data.targets[name][own])
            for name in names
            for own in [data.labelled[name]]
        }
    )
