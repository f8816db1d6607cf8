"""Training: one readable loop in which the replicas of all seeds learn at once.

Every seed has its own initialisation, split and minibatch order. The parameters of all seeds'
replicas are stacked, and one call of `torch.func.vmap` evaluates them together: the losses of
different seeds share no parameter, so the gradient of their sum holds each seed's own gradient.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing

import torch

from mtlbook.devices import resolve
from mtlbook.errors import UsageError
from mtlbook.training.loop import Data, Training, TrainingDivergedError
from mtlbook.training.progress import bar as progress_bar
from mtlbook.training.replicas import Build
from mtlbook.training.results import Fit, join
from mtlbook.training.settings import Settings, Trial

__all__ = ["Data", "TrainingDivergedError", "fit", "fit_trials"]


def fit(build: Build, data: Data, *, seeds: Iterable[int], settings: Settings | None = None) -> Fit:
    """Train a replica of a model for each seed, all at once, and test each.

    Arguments:
        build: makes a model from a seed's training data and the seed; called once a seed under
            that seed's own random numbers. The model maps inputs to a dictionary from task names
            to predictions.
        data: one data set whose rows each seed splits anew, or a function from a seed to its data.
        seeds: one replica each.
        settings: all else; every setting has a default.

    Raises:
        UsageError: for data, tasks or a model that do not fit one another; the message says which.
        TrainingDivergedError: for a loss that becomes NaN or infinite.

    Example:
        >>> from torch import nn
        >>> from mtlbook import HardSharing, MultiTaskData, Task
        >>> tasks = [Task.regression("sum"), Task.regression("product")]
        >>> x = torch.linspace(-1, 1, 100).view(50, 2)
        >>> targets = {"sum": x.sum(1), "product": x.prod(1)}
        >>> data = MultiTaskData.multi_label(tasks, x, targets)
        >>> def build(data, seed):
        ...     heads = {task.name: nn.Linear(8, task.outputs) for task in data.tasks}
        ...     return HardSharing(lambda: [nn.Linear(2, 8), nn.Tanh()], heads)
        >>> trained = fit(build, data, seeds=range(4), settings=Settings(steps=10))
        >>> trained.score("sum").shape
        (4,)
    """
    return fit_trials(build, data, seeds=seeds, trials={"": Trial()}, settings=settings)[""]


def fit_trials(
    build: Build,
    data: Data,
    *,
    seeds: Iterable[int],
    trials: Mapping[str, Trial],
    settings: Settings | None = None,
) -> dict[str, Fit]:
    """Train the same replicas under several optimisers or combiners, all trials at once.

    Each trial is what `fit` with its optimiser and combiner would be, with the same splits, initial
    weights and minibatches; `select` chooses among the trials on validation data. For small
    networks it takes half to two thirds of the time of `fit` by trial.

    Arguments:
        build: makes a model, as in `fit`.
        data: as in `fit`.
        seeds: one replica of each trial each.
        trials: by name.
        settings: what the trials have in common.

    Raises:
        UsageError: as `fit` does, and for no trial at all.
        TrainingDivergedError: for a loss that becomes NaN or infinite in any trial.

    Example:
        >>> from functools import partial
        >>> from torch import nn
        >>> from mtlbook import HardSharing, MultiTaskData, Task, select
        >>> tasks = [Task.regression("sum")]
        >>> x = torch.linspace(-1, 1, 100).view(50, 2)
        >>> data = MultiTaskData.multi_label(tasks, x, {"sum": x.sum(1)})
        >>> def build(data, seed):
        ...     return HardSharing(lambda: [nn.Linear(2, 8), nn.Tanh()], {"sum": nn.Linear(8, 1)})
        >>> adam = {f"rate {r}": partial(torch.optim.Adam, lr=r) for r in (0.001, 0.1)}
        >>> trials = fit_trials(
        ...     build,
        ...     data,
        ...     seeds=range(3),
        ...     trials={name: Trial(optimiser=own) for name, own in adam.items()},
        ...     settings=Settings(steps=20),
        ... )
        >>> list(select(trials).choices["sum"])
        ['rate 0.1', 'rate 0.1', 'rate 0.1']
    """
    if not trials:
        raise UsageError("There is no trial: name at least one.")
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"The seeds must be distinct, at least one: {list(seeds)} are not.")
    settings = settings or Settings()
    own_optimisers = len(trials) > 1 and any(own.optimiser for own in trials.values())
    if settings.after_step is not None and own_optimisers:
        raise UsageError(
            "after_step is told one learning rate, and the trials have optimisers of their own: "
            "call fit for each trial."
        )
    if not settings.vectorise and len(trials) > 1:
        alone = [
            fit_trials(build, data, seeds=seeds, trials={name: own}, settings=settings)
            for name, own in trials.items()
        ]
        return {name: own for each in alone for name, own in each.items()}
    device = resolve(settings.device)
    fits: list[dict[str, Fit]] = []
    total = settings.steps * len(seeds) * len(trials)
    with closing(progress_bar(total, settings.progress_label)) as bar:
        waiting: list[tuple[int, ...]] = [seeds]
        if not settings.vectorise:
            waiting = [(seed,) for seed in seeds]
        while waiting:
            group = waiting.pop(0)
            try:
                training = Training(build, data, group, trials, settings, device)
                fits.append(training.run(bar.update))
                # What the group holds on the device makes room for the next one.
                del training
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if len(group) == 1:
                    raise UsageError(
                        "Training does not fit into memory even for a single seed: use smaller "
                        "batches or a smaller model."
                    ) from error
                half = len(group) // 2
                waiting[:0] = [group[:half], group[half:]]
    return {name: join([each[name] for each in fits]) for name in trials}


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in str(error)
    )
