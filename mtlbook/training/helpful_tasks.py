"""Which auxiliary tasks help: what one's own tasks show before they are trained together.

`task_evidence` trains each task alone and all of them together for a few steps, and gives the
features from which `mtlbook.auxiliary.helpful_tasks.predict_gains` forecasts gains; `pair_gains`
measures the gains of some pairs, from which it learns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from mtlbook.auxiliary.task_features import PAIR, pair_features, task_features
from mtlbook.balancing.affinity import AffinityRecorder
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.training.fit import Data, fit
from mtlbook.training.replicas import Build
from mtlbook.training.sampling import Balanced
from mtlbook.training.settings import Settings

CURVE_POINTS = 20
EARLY = 0.1  # of the training


def early_gradients(
    build: Build,
    data: Data,
    *,
    seeds: Iterable[int],
    steps: int,
    settings: Settings | None = None,
) -> dict[str, Float[ndarray, "seeds tasks tasks"]]:
    """The mean cosine of the tasks' gradients, and their affinity, early in one joint training.

    Row i, column j of the `affinity`: what a step for task j takes from the loss of task i, in
    parts of that loss (Fifty et al., 2021, equation 1, to first order); the row is the main task.

    Arguments:
        build: makes a model of all tasks, as for `fit`.
        data: as for `fit`.
        seeds: a training each.
        steps: how many early steps are averaged over.
        settings: of the training; its combiner must be left out.
    """
    settings = _plain(settings)
    seeds = list(seeds)
    example = data(seeds[0]) if callable(data) else data
    names = list(settings.tasks or [task.name for task in example.tasks])
    recorded = fit(
        build,
        data,
        seeds=seeds,
        settings=replace(
            settings,
            steps=steps,
            stopping=None,
            validate_every=steps,
            evaluate_on=["validation"],
            combiner=AffinityRecorder(names),
        ),
    )
    kept = [recorded.combiner(seed) for seed in seeds]
    own = [one for one in kept if isinstance(one, AffinityRecorder)]
    return {
        "cosine": np.stack([one.cosine.numpy() for one in own]),
        "affinity": np.stack([one.affinity.numpy().T for one in own]),
    }


def task_evidence(
    build: Build, data: MultiTaskData, *, seeds: Iterable[int], settings: Settings | None = None
) -> pd.DataFrame:
    """The features of all ordered pairs of tasks: labels, learning curves, early gradients.

    It costs a single-task training for each task, and a tenth of a joint one. Averages over the
    seeds.

    Arguments:
        build: makes a model from data with one or several of the tasks, and a seed.
        data: classification (or binary) tasks, labels of which the training part counts.
        seeds: of the trainings whose features are averaged.
        settings: of the trainings; combiner and tasks must be left out, and the sampler is
            `Balanced` unless it is given.

    Raises:
        UsageError: for settings with a combiner, and as for `fit` and `task_features`.
    """
    settings, seeds = _plain(settings), list(seeds)
    names = [task.name for task in data.tasks]
    every = max(1, settings.steps // CURVE_POINTS)
    curves, labels = {}, {}
    splits = [settings.split.draw(data, seed) for seed in seeds]
    for name in names:
        own = replace(settings, tasks=[name], validate_every=every, patience=None)
        history = fit(build, data, seeds=seeds, settings=own).history
        of_task = history[history["part"] == "train"]
        by_step = np.asarray(of_task["loss"], dtype=float).reshape(-1, len(seeds))
        curves[name] = by_step.mean(1)
        known = splits[0].train[splits[0].labelled[name][splits[0].train]]
        labels[name] = data.targets[name][known].flatten().numpy()
    early = max(1, round(EARLY * settings.steps))
    gradients = early_gradients(build, data, seeds=seeds, steps=early, settings=settings)
    features = task_features(labels, curves)
    return pair_features(features, {what: own.mean(0) for what, own in gradients.items()})


def pair_gains(
    build: Build,
    data: MultiTaskData,
    *,
    seeds: Iterable[int],
    pairs: Iterable[tuple[str, str]] | None = None,
    settings: Settings | None = None,
) -> pd.Series:
    """Measured gains: the relative reduction of each main task's loss beside an auxiliary, percent.

    The mean over seeds of the test loss at the main task's own best validation loss, against its
    single-task training. Each unordered pair is trained once, with equal weights.

    Arguments:
        build: makes a model from data with one or two of the tasks, and a seed.
        data: as for `task_evidence`.
        seeds: of the trainings.
        pairs: (main, auxiliary); by default all.
        settings: as for `task_evidence`.

    Raises:
        UsageError: for settings with a combiner, a pair of unknown or equal tasks, and as `fit`.
    """
    settings, seeds = _plain(settings), list(seeds)
    names = [task.name for task in data.tasks]
    wanted = [(m, a) for m in names for a in names if m != a] if pairs is None else list(pairs)
    for main, auxiliary in wanted:
        if main == auxiliary or not {main, auxiliary} <= set(names):
            raise UsageError(f"({main!r}, {auxiliary!r}) is no pair of two tasks among {names}.")

    def trained(tasks: Sequence[str]) -> dict[str, float]:
        own = replace(settings, tasks=tasks, stopping="each")
        tested = fit(build, data, seeds=seeds, settings=own)
        return {name: float(tested.score(name, "loss").mean()) for name in tasks}

    alone = {name: trained([name])[name] for name in names if any(name == m for m, _ in wanted)}
    joint = {pair: trained(pair) for pair in {tuple(sorted(own)) for own in wanted}}
    gains = [100 * (1 - joint[tuple(sorted((m, a)))][m] / alone[m]) for m, a in wanted]
    return pd.Series(gains, index=pd.MultiIndex.from_tuples(wanted, names=PAIR), name="gain")


def _plain(settings: Settings | None) -> Settings:
    settings = settings or Settings(sampler=Balanced())
    if settings.combiner is not None or settings.tasks is not None:
        raise UsageError("Tasks are compared by plain trainings: leave combiner and tasks out.")
    return settings
