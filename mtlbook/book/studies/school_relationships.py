"""Section 6.1 on School: relations between schools, learnt from twenty students of each.

Predicting a student's score is a task in each school. The tasks are surely alike, so that all
relations should be positive: here a distance between the heads can do what a learnt covariance
does. School is where such priors were tried first (Bakker and Heskes, 2003).

Protocol. The tasks are the 16 largest of the 139 schools. Each seed draws 20 students of each for
training, 20 for validation and 60 for the test. Inputs and scores are standardised once, by the
training students of all 16 schools. All networks have one hidden layer of 16 tanh units and a
linear head a school, start from random weights, and take 100 steps of Adam on all training
students. Each contestant has four trials, chosen for each seed by validation loss:

* *Single-task*, a network for each school, and *hard sharing*: weight decays 0, 1, 3 and 10. Each
  single-task network chooses its trial, and stops, by its own school's validation students.
* *Independent L2* on the heads of a shared layer: λ = 0.3, 1, 3 and 10.
* *Squared distance* between the heads, with L2: λ = 2 and 6, distances of 0.1 λ and λ.
* *Learnt covariance* of the schools' heads: the same two λ, a tenth or a half of I.

Recorded are each school's test losses, in units of the training scores' variance, and the mean
correlation of all pairs of schools in the learnt covariance. It takes about a minute.
Fixed after a pilot on seeds from 7000.
"""

from collections.abc import Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from mtlbook.book.experiments.contestants import Bench
from mtlbook.book.experiments.networks import dense
from mtlbook.book.experiments.relationships import (
    distance_trials,
    l2_trials,
    learnt_correlations,
    prior_trials,
    related_network,
)
from mtlbook.book.experiments.results import scores, tasks_of, trained_network
from mtlbook.book.experiments.training import adam, adamw_trials, crossed
from mtlbook.book.studies.school_hard_sharing import largest
from mtlbook.data import Holdout, MultiTaskData, school
from mtlbook.training.sampling import Balanced

SECTION = "6.1"
DATA = ("school",)
SEEDS = 16

SCHOOLS = 16
SPLIT = Holdout(train=20, validation=20, test=60)
WIDTH, STEPS, RATE = 16, 100, 0.02
DECAYS = (0.0, 1.0, 3.0, 10.0)
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
MIDDLE = (2.0, 6.0)  # the strengths that have a second dial
DISTANCES, SHARES = (0.1, 1.0), (0.1, 0.5)
LEARNT = "learnt covariance"


def run(
    seeds: Sequence[int],
    device: str,
    *,
    schools: int = SCHOOLS,
    split: Holdout = SPLIT,
    steps: int = STEPS,
) -> pd.DataFrame:
    """Columns seed, method, school, metric, value."""
    chosen = largest(school.load(), schools)

    @cache
    def data(seed: int) -> MultiTaskData:
        return school.scaled(chosen, split, seed)

    # What the contestants need of a page.
    page: Any = SimpleNamespace(seeds=list(seeds), device=device, section=SECTION)
    bench = Bench(
        page=page,
        data=data,
        stages=dense(chosen.inputs.shape[1], WIDTH),
        width=WIDTH,
        trials=adamw_trials([RATE], DECAYS),
        settings={
            "split": split,
            "sampler": Balanced(int(split.train)),
            "steps": steps,
            "validate_every": 10,
            "evaluate_on": ["validation", "test"],
        },
    )
    network = partial(related_network, stages=bench.stages, width=WIDTH)
    names = [task.name for task in chosen.tasks]
    adam_at = {"adam": {"optimiser": adam(RATE)}}
    arms = {
        "single-task": bench.single_task(),
        "hard sharing": bench.hard_sharing(),
        "independent L2": bench.method(network, crossed(adam_at, l2_trials(names, STRENGTHS))),
        "squared distance": bench.method(
            network, crossed(adam_at, distance_trials(names, MIDDLE, DISTANCES))
        ),
        LEARNT: bench.method(network, crossed(adam_at, prior_trials(names, MIDDLE, SHARES))),
    }
    rows = [
        (seed, method, task.name, "loss", value)
        for method, arm in arms.items()
        for seed, losses in zip(seeds, scores(arm, "loss"), strict=True)
        for task, value in zip(tasks_of(arm), losses, strict=True)
    ]
    for seed in seeds:
        found = learnt_correlations(trained_network(arms[LEARNT], seed))
        pairs = ~torch.eye(len(found), dtype=torch.bool)
        rows.append((seed, LEARNT, "all pairs", "mean correlation", float(found[pairs].mean())))
    return pd.DataFrame(rows, columns=["seed", "method", "school", "metric", "value"])
