"""What trained networks achieved: errors, their reduction, the network that was chosen."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import nn

from mtlbook.statistics import Effect, paired_effect
from mtlbook.tasks import Task
from mtlbook.training.results import Fit
from mtlbook.training.selection import Selected

Trained = Fit | Selected


def tasks_of(trained: Trained) -> tuple[Task, ...]:
    """The tasks of a training or of a search."""
    return trained.tasks if isinstance(trained, Fit) else next(iter(trained.fits.values())).tasks


def scores(
    trained: Trained,
    metric: str | None = None,
    part: str = "test",
    tasks: Sequence[str] | None = None,
) -> Float[np.ndarray, "seeds tasks"]:
    """A metric of each task, by default its own; a row a seed.

    Arguments:
        trained: a training, or the chosen trials of a search.
        metric: one metric for all tasks, such as `"loss"`.
        part: train, validation or test.
        tasks: some of the tasks, by default all.
    """
    names = [task.name for task in tasks_of(trained)] if tasks is None else tasks
    return np.stack([trained.score(name, metric, part) for name in names], axis=1)


def errors(
    trained: Trained, part: str = "test", tasks: Sequence[str] | None = None
) -> Float[np.ndarray, "seeds tasks"]:
    """The error of each task: its metric, or what is missing to 1 where a higher one is better."""
    own = {task.name: task for task in tasks_of(trained)}
    names = list(own) if tasks is None else tasks
    higher = np.array([own[name].higher_is_better for name in names])
    values = scores(trained, part=part, tasks=names)
    return np.where(higher, 1 - values, values)


def mean_error(
    trained: Trained, part: str = "test", tasks: Sequence[str] | None = None
) -> Float[np.ndarray, " seeds"]:
    """The error averaged over the tasks."""
    return errors(trained, part, tasks).mean(1)


def relative_loss(trained: Trained, baseline: Trained) -> Float[np.ndarray, " seeds"]:
    """Each task's test loss over the baseline's mean, averaged over the tasks."""
    reference = scores(baseline, "loss").mean(0)
    return (scores(trained, "loss") / reference).mean(1)


def error_reduction(
    error: Float[np.ndarray, "seeds"], baseline: Float[np.ndarray, "seeds"]
) -> Effect:
    """The relative error reduction against a baseline, %, paired by seed; positive is better."""
    return paired_effect(error, baseline, higher_is_better=False, relative=True)


def error_reductions(
    error: Float[np.ndarray, "seeds"], baseline: Float[np.ndarray, "seeds"]
) -> Float[np.ndarray, " seeds"]:
    """Each seed's error reduction, in percent of the baseline's mean; positive is better.

    Example:
        >>> error_reductions(np.array([1.0, 2.0]), np.array([2.0, 2.0]))
        array([50.,  0.])
    """
    return 100 * (baseline - error) / baseline.mean()


def mostly_chosen(selected: Selected, task: str | None = None) -> str:
    """The trial that most seeds chose; of several, the first by name.

    Arguments:
        selected: the chosen trials of a search.
        task: whose choice, by default the first task's.
    """
    column = selected.choices.columns[0] if task is None else task
    return str(selected.choices[column].mode().min())


def trained_network(trained: Trained, seed: int, task: str | None = None) -> nn.Module:
    """A copy of a seed's trained network on the CPU, frozen: to look into.

    Arguments:
        trained: a training, or a search, of which the chosen trial's network is taken.
        seed: whose network.
        task: where tasks stopped or chose on their own, whose network; by default the first's.
    """
    if isinstance(trained, Selected):
        column = trained.choices.columns[0] if task is None else task
        trained = trained.fits[trained.choices.loc[seed, column]]
    return trained.model(seed, task).requires_grad_(False)
