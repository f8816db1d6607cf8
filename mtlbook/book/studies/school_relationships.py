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
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pandas as pd
import torch

from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.relationships import (
    distance_trials,
    l2_trials,
    learnt_correlations,
    prior_trials,
    related_network,
)
from mtlbook.book.experiments.results import scores, tasks_of, trained_network
from mtlbook.book.experiments.training import Build, Trials, adam, adamw_trials
from mtlbook.book.studies.school_hard_sharing import largest
from mtlbook.data import Holdout, MultiTaskData, school
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.fit import fit_trials
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

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

    names = [task.name for task in chosen.tasks]
    stages = dense(chosen.inputs.shape[1], WIDTH)
    common = Settings(
        split=split,
        sampler=Balanced(int(split.train)),
        steps=steps,
        validate_every=10,
        evaluate_on=("validation", "test"),
        device=device,
        progress_label="schools",
    )

    def searched(build: Build, trials: Trials, **changed: Any) -> Selected:
        """Each seed's choice among the trials, of which those with the same prior train at once."""
        fits, priors = {}, {id(own.get("regulariser")): own for own in trials.values()}
        for prior, one in priors.items():
            shared = {name: one.get(name) for name in ("regulariser", "after_step")}
            fits |= fit_trials(
                build,
                data,
                seeds=seeds,
                trials={
                    name: Trial(own.get("optimiser"), own.get("combiner"))
                    for name, own in trials.items()
                    if id(own.get("regulariser")) == prior
                },
                settings=replace(common, **shared, **changed),
            )
        return select(fits, each_task=changed.get("stopping") == "each")

    def network(own: MultiTaskData, _seed: int, branch_at: int | None = None) -> HardSharing:
        return hard_sharing(stages, own.tasks, WIDTH, branch_at=branch_at)

    decayed = adamw_trials([RATE], DECAYS)
    with_prior = partial(related_network, stages=stages, width=WIDTH)
    related = partial(searched, with_prior, optimiser=adam(RATE))
    arms = {
        "single-task": searched(partial(network, branch_at=0), decayed, stopping="each"),
        "hard sharing": searched(network, decayed),
        "independent L2": related(l2_trials(names, STRENGTHS)),
        "squared distance": related(distance_trials(names, MIDDLE, DISTANCES)),
        LEARNT: related(prior_trials(names, MIDDLE, SHARES)),
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
