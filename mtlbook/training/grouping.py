"""Which tasks to train together: groups from the affinities that one joint training records."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mtlbook.balancing.affinity import AffinityRecorder, best_partition
from mtlbook.errors import UsageError
from mtlbook.training.fit import Data, fit
from mtlbook.training.replicas import Build
from mtlbook.training.settings import Settings


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which tasks should share a network, and why.

    Attributes:
        tasks: in the order of the matrices.
        groups: the tasks' names, a group a network.
        affinity: by seed, how much a step for the row's task takes from the column's loss, relative
            to that loss and to the step's length, averaged over the training.
        cosine: by seed, the mean cosine of the tasks' gradients.
    """

    tasks: tuple[str, ...]
    groups: list[list[str]]
    affinity: Float[np.ndarray, "seeds tasks tasks"]
    cosine: Float[np.ndarray, "seeds tasks tasks"]


def group_tasks(
    build: Build,
    data: Data,
    *,
    seeds: Iterable[int],
    most: int | None = None,
    settings: Settings | None = None,
) -> Grouping:
    """Group tasks by the affinities of one joint training (Fifty et al., 2021).

    It costs one joint training with a backward pass for each task, where trying every group would
    take 2^K - 1 trainings. An affinity is a guess: it is that of this network, these rates and
    these data, and it says nothing about capacity. Train the groups, and compare on validation
    data, before you rely on it.

    Arguments:
        build: makes a model of all tasks that share parameters, as for `fit`.
        data: as for `fit`.
        seeds: of the trainings whose affinities are averaged.
        most: the number of networks that one can afford; by default as many as tasks.
        settings: of the training; its combiner must be left out.

    Raises:
        UsageError: for settings with a combiner, for more than ten tasks, and as for `fit`.

    Example:
        >>> from torch import nn
        >>> from mtlbook import HardSharing
        >>> from mtlbook.data.constructed import related_tasks
        >>> made = related_tasks(0, tasks=(2, 1), rows=100, inputs=5, same_inputs=True).data
        >>> def build(data, seed):
        ...     heads = {task.name: nn.Linear(8, task.outputs) for task in data.tasks}
        ...     return HardSharing(lambda: [nn.Linear(5, 8), nn.Tanh()], heads)
        >>> found = group_tasks(build, made, seeds=[0], settings=Settings(steps=10))
        >>> sorted(name for group in found.groups for name in group)
        ['task_1', 'task_2', 'task_3']
    """
    settings = settings or Settings()
    if settings.combiner is not None:
        raise UsageError("Tasks are grouped by a plain joint training: leave the combiner out.")
    seeds = list(seeds)
    example = data(seeds[0]) if callable(data) else data
    names = settings.tasks or [task.name for task in example.tasks]
    trained = fit(
        build, data, seeds=seeds, settings=replace(settings, combiner=AffinityRecorder(names))
    )
    recorded = [trained.combiner(seed) for seed in seeds]
    kept = [own for own in recorded if isinstance(own, AffinityRecorder)]
    affinity = np.stack([own.affinity.numpy() for own in kept])
    groups = best_partition(affinity.mean(0), most=most)
    return Grouping(
        tuple(names),
        [[names[task] for task in group] for group in groups],
        affinity,
        np.stack([own.cosine.numpy() for own in kept]),
    )
