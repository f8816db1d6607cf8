"""Training: one readable loop in which the replicas of all seeds learn at once.

Every seed has its own initialisation, split and minibatch order. The parameters of all seeds'
replicas are stacked, and one call of `torch.func.vmap` evaluates them together: the losses of
different seeds share no parameter, so the gradient of their sum holds each seed's own gradient.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from mtlbook.data.multi_task_data import PARTS, Holdout, MultiTaskData
from mtlbook.devices import resolve
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.training.minibatches import Minibatches
from mtlbook.training.pool import Pool
from mtlbook.training.progress import bar as progress_bar
from mtlbook.training.replicas import Replica, Replicas, State

# Relative: far above the rounding of float64, far below what matters.
ROUNDING = 1e-9

Optimiser = Callable[[list[tuple[str, Tensor]]], torch.optim.Optimizer]


class TrainingDivergedError(UsageError):
    """A loss became NaN or infinite: the message names task, seed and step."""


@dataclass(frozen=True)
class Cost:
    """What one replica costs, in figures that do not depend on the machine.

    Attributes:
        parameters: trained numbers.
        inference: floating-point operations to predict all tasks for one example (matrix products
            and convolutions, two a multiply-add; PyTorch's own counter).
        training: floating-point operations of the whole training, for each seed, at the usual
            three times the forward pass a step.
        steps: optimiser steps that each seed took before it stopped.
    """

    parameters: int
    inference: int
    training: Float[np.ndarray, " seeds"]
    steps: Int[np.ndarray, " seeds"]


@dataclass(frozen=True, eq=False)
class Fit:
    """What training left: results and histories as tidy tables, predictions, the replicas.

    Attributes:
        results: columns seed, task, part (train, validation or test), metric and value; each
            task's metric and its `loss`.
        history: columns seed, step, task, part (train or validation) and loss; the training loss
            is the mean since the last row.
        predictions: for each task an array `(seeds, test rows, outputs, ...)`.
        test: the rows that were predicted, `(seeds, test rows)`.
        cost: parameters and floating-point operations of a replica.
    """

    tasks: tuple[Task, ...]
    seeds: tuple[int, ...]
    results: pd.DataFrame
    history: pd.DataFrame
    predictions: dict[str, np.ndarray]
    test: Int[np.ndarray, "seeds rows"]
    cost: Cost
    _replicas: dict[str, list[Callable[[], Replica]]]

    def score(
        self, task: str, metric: str | None = None, part: str = "test"
    ) -> Float[np.ndarray, " seeds"]:
        """A task's metric (by default its own; or `loss`) on a part of the data, a value a seed."""
        own = self._task(task)
        chosen = own.metric.name if metric is None else metric
        # Not `query`, which parses its text anew: tuning asks for thousands of scores.
        wanted = {"task": task, "metric": chosen, "part": part}
        rows = np.logical_and.reduce(
            [self.results[name].to_numpy() == value for name, value in wanted.items()]
        )
        if not rows.any():
            raise UsageError(
                f"There are no results for the metric {chosen!r} on the part {part!r} of task "
                f"{task!r}: metrics are {own.metric.name!r} and 'loss', parts are "
                f"{sorted(self.results.part.unique())}."
            )
        return self.results["value"].to_numpy()[rows]

    def model(self, seed: int, task: str | None = None) -> nn.Module:
        """The trained model of one seed; the same object at each call.

        With `stopping="each"` every task has stopped at its own best point: name the task.
        """
        return self._replica(seed, task).model

    def weighting(self, seed: int, task: str | None = None) -> Callable[[Tensor], Tensor] | None:
        """The weighting of one seed, trained where it has parameters; None where none was given."""
        return self._replica(seed, task).weighting

    def _replica(self, seed: int, task: str | None) -> Replica:
        if seed not in self.seeds:
            raise UsageError(f"Seed {seed} was not trained: the seeds are {list(self.seeds)}.")
        name = self.tasks[0].name if task is None else self._task(task).name
        return self._replicas[name][self.seeds.index(seed)]()

    def _task(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise UsageError(f"There is no task {name!r}: choose among {[t.name for t in self.tasks]}.")


def fit(
    build: Callable[[], nn.Module],
    data: MultiTaskData | Callable[[int], MultiTaskData],
    *,
    seeds: Iterable[int],
    tasks: Sequence[str] | None = None,
    split: Holdout | None = None,
    steps: int = 1000,
    batch_size: int | None = 32,
    sampling: str = "mixed",
    learning_rate: float = 1e-3,
    optimiser: Optimiser | None = None,
    schedule: Callable[[int], float] | None = None,
    weighting: Callable[[Tensor], Tensor] | None = None,
    balancer: Callable[[Tensor], Tensor] | None = None,
    regulariser: Callable[[nn.Module], Tensor] | None = None,
    proximal: Callable[[nn.Module, float], dict[str, Tensor]] | None = None,
    initialise: Callable[[nn.Module, int], None] | None = None,
    stopping: str | None = "joint",
    patience: int | None = None,
    every: int | None = None,
    scored: Sequence[str] = PARTS,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float64,
    vectorise: bool = True,
    checkpoint: str | Path | None = None,
    label: str = "training",
) -> Fit:
    """Train a replica of a model for each seed, all at once, and test each.

    Arguments:
        build: makes a model; called once a seed under that seed's own random numbers. The model
            maps inputs to a dictionary from task names to predictions.
        data: one data set whose rows each seed splits anew, or a function from a seed to its data.
        seeds: one replica each.
        tasks: the tasks to train and test, by default all; the split is that of the whole data, so
            that training for one task and for several see the same rows.
        split: how rows are divided; by default 60, 20 and 20 %.
        steps: optimiser steps at most.
        batch_size: rows a minibatch (of each task, where tasks are sampled apart); None for all.
        sampling: `mixed` draws rows from all tasks' together and averages each task's loss over
            its labelled rows in the batch; `balanced` draws a minibatch for each task and takes one
            joint step; `alternating` takes a step on one task at a time, each with an optimiser
            of its own.
        learning_rate: of Adam, the default optimiser.
        optimiser: makes an optimiser from named parameters, each stacked over the seeds (seeds
            first): `partial(torch.optim.SGD, lr=0.1)`.
        schedule: the learning rate of a step, counted from 0, as a multiple of the optimiser's own
            (the convention of `torch.optim.lr_scheduler.LambdaLR`).
        weighting: maps the vector of task losses to the loss that is minimised, by default their
            sum; a module's own parameters are trained too, for each seed its own.
        balancer: maps the Gramian of the tasks' gradients, by the parameters that more than one
            task uses, to the weights of these gradients; what one task uses alone follows that
            task's gradient. Instead of a weighting.
        regulariser: a penalty computed from the model, added to the loss.
        proximal: a map from the model and a step size to new values of some of its parameters,
            applied after each step with the learning rate (a proximal gradient method).
        initialise: changes a fresh model in place, given its seed (to start from trained weights).
        stopping: which weights are kept: those with the least validation loss, jointly weighted
            (`joint`), of one task (its name), or for each task its own (`each`); None for the last.
        patience: evaluations without improvement after which a seed stops; None to take all steps.
        every: steps between two evaluations, by default a fiftieth of all.
        scored: the parts of the data that the results tell of; leaving out one that nobody asks
            for saves its predictions.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; the random numbers are the same on each.
        dtype: float64 by default, which gives the same digits on every machine.
        vectorise: False trains one seed after another, for models that `vmap` cannot take.
        checkpoint: a folder from which an interrupted training goes on; emptied when it is done.
        label: what the progress bar says.

    Raises:
        UsageError: for data, tasks or a model that do not fit one another; the message says which.
        TrainingDivergedError: for a loss that becomes NaN or infinite.

    Example:
        >>> from mtlbook.sharing.hard import HardSharing
        >>> tasks = [Task.regression("sum"), Task.regression("product")]
        >>> x = torch.linspace(-1, 1, 100).view(50, 2)
        >>> targets = {"sum": x.sum(1), "product": x.prod(1)}
        >>> data = MultiTaskData.multi_label(tasks, x, targets)
        >>> def build():
        ...     return HardSharing([nn.Linear(2, 8), nn.Tanh()], tasks, width=8)
        >>> trained = fit(build, data, seeds=range(4), steps=10)
        >>> trained.score("sum").shape
        (4,)
    """
    return _train(
        build,
        data,
        optimisers={"": optimiser or partial(torch.optim.Adam, lr=learning_rate, fused=True)},
        seeds=seeds,
        tasks=tasks,
        split=split,
        steps=steps,
        batch_size=batch_size,
        sampling=sampling,
        schedule=schedule,
        weighting=weighting,
        balancer=balancer,
        regulariser=regulariser,
        proximal=proximal,
        initialise=initialise,
        stopping=stopping,
        patience=patience,
        every=every,
        scored=scored,
        device=device,
        dtype=dtype,
        vectorise=vectorise,
        checkpoint=checkpoint,
        label=label,
    )[""]


def fit_trials(
    build: Callable[[], nn.Module],
    data: MultiTaskData | Callable[[int], MultiTaskData],
    *,
    optimisers: Mapping[str, Optimiser],
    label: str = "trials",
    **options: Any,
) -> dict[str, Fit]:
    """Train the same replicas under several optimisers, all trials of all seeds at once.

    A search for learning rates and weight decays: each trial is what `fit` with its optimiser
    would be, with the same splits, initial weights and minibatches, and `selection.select` chooses
    among the trials. For small networks it takes half to two thirds of the time of `fit` by trial.

    Arguments:
        build: makes a model, as in `fit`.
        data: as in `fit`.
        optimisers: the trials by name.
        label: what the progress bar says.
        **options: the others of `fit`, but for those that only one trial can have: `optimiser`,
            `learning_rate`, `proximal` and `vectorise`.

    Raises:
        UsageError: as `fit` does, and for no trial at all.
        TrainingDivergedError: for a loss that becomes NaN or infinite in any trial.

    Example:
        >>> from mtlbook.training.selection import select
        >>> from mtlbook.sharing.hard import HardSharing
        >>> tasks = [Task.regression("sum")]
        >>> x = torch.linspace(-1, 1, 100).view(50, 2)
        >>> data = MultiTaskData.multi_label(tasks, x, {"sum": x.sum(1)})
        >>> trials = fit_trials(
        ...     lambda: HardSharing([nn.Linear(2, 8), nn.Tanh()], tasks, width=8),
        ...     data,
        ...     optimisers={f"rate {r}": partial(torch.optim.Adam, lr=r) for r in (0.001, 0.1)},
        ...     seeds=range(3),
        ...     steps=20,
        ... )
        >>> list(select(trials).choices["sum"])
        ['rate 0.1', 'rate 0.1', 'rate 0.1']
    """
    if not optimisers:
        raise UsageError("There is no trial: name at least one optimiser.")
    alone = {"optimiser", "learning_rate", "proximal", "vectorise"} & set(options)
    if alone:
        raise UsageError(f"Trials at once do not take {sorted(alone)}: call fit for each trial.")
    return _train(build, data, optimisers=optimisers, label=label, **options)


def _train(
    build: Callable[[], nn.Module],
    data: MultiTaskData | Callable[[int], MultiTaskData],
    *,
    optimisers: Mapping[str, Optimiser],
    seeds: Iterable[int],
    label: str,
    split: Holdout | None = None,
    steps: int = 1000,
    every: int | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    **options: Any,
) -> dict[str, Fit]:
    """Train every trial for every seed, as many at once as fit into memory."""
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"The seeds must be distinct, at least one: {list(seeds)} are not.")
    run = _Run(
        build,
        data,
        dict(optimisers),
        split=split or Holdout(),
        steps=steps,
        every=every or max(1, steps // 50),
        device=resolve(device),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        **options,
    )
    fits: list[dict[str, Fit]] = []
    checkpoints: list[Path] = []
    with closing(progress_bar(run.steps * len(seeds) * len(run.optimisers), label)) as bar:
        waiting: list[tuple[int, ...]] = [seeds] if run.vectorise else [(seed,) for seed in seeds]
        while waiting:
            group = waiting.pop(0)
            try:
                trained = _Group(run, group).train(bar.update)
                fits.append(trained.finish())
                checkpoints += trained.checkpoints
                # What the group holds on the device makes room for the next one.
                del trained
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
    for path in checkpoints:
        path.unlink(missing_ok=True)
    return {trial: _join([each[trial] for each in fits]) for trial in run.optimisers}


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in str(error)
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """The arguments of `fit` and `fit_trials`, checked one by one."""

    build: Callable[[], nn.Module]
    data: MultiTaskData | Callable[[int], MultiTaskData]
    optimisers: Mapping[str, Optimiser]
    _: KW_ONLY
    split: Holdout
    steps: int
    every: int
    device: torch.device
    tasks: Sequence[str] | None = None
    batch_size: int | None = 32
    sampling: str = "mixed"
    schedule: Callable[[int], float] | None = None
    weighting: Callable[[Tensor], Tensor] | None = None
    balancer: Callable[[Tensor], Tensor] | None = None
    regulariser: Callable[[nn.Module], Tensor] | None = None
    proximal: Callable[[nn.Module, float], dict[str, Tensor]] | None = None
    initialise: Callable[[nn.Module, int], None] | None = None
    stopping: str | None = "joint"
    patience: int | None = None
    scored: Sequence[str] = PARTS
    dtype: torch.dtype = torch.float64
    vectorise: bool = True
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, or None, not {self.batch_size}.")
        if self.sampling not in ("mixed", "balanced", "alternating"):
            raise UsageError(
                f"There is no sampling {self.sampling!r}: choose mixed, balanced or alternating."
            )
        if not self.scored or set(self.scored) - set(PARTS):
            raise UsageError(f"scored names parts of the data among {list(PARTS)}: {self.scored}.")
        given = self.weighting is not None or self.sampling == "alternating"
        if self.balancer is not None and given:
            raise UsageError(
                "A balancer combines gradients: give no weighting, and sample jointly."
            )


class _Optimisers:
    """The optimisers of all trials, each on its own part of the stacked parameters.

    Arguments:
        named: the parameters by name, stacked over the replicas, a trial's after another's.
        makers: of each trial's optimiser.
        seeds: how many replicas each trial has.
    """

    def __init__(
        self, named: Sequence[tuple[str, Tensor]], makers: Sequence[Optimiser], seeds: int
    ) -> None:
        self._stacked = [values for _, values in named]
        if len(makers) == 1:
            self._parts = [tuple(self._stacked)]
        else:
            # Views: a step on them changes the stacked parameters.
            parts = [values.detach().split(seeds) for values in self._stacked]
            self._parts = list(zip(*parts, strict=True))
        names = [name for name, _ in named]
        self.of_trials = [
            make(list(zip(names, own, strict=True)))
            for make, own in zip(makers, self._parts, strict=True)
        ]
        self._rates = [[group["lr"] for group in own.param_groups] for own in self.of_trials]
        self._seeds = seeds

    @property
    def rate(self) -> float:
        """The learning rate now (of the first group of parameters, in the first trial)."""
        return self.of_trials[0].param_groups[0]["lr"]

    def set_rates(self, factor: float) -> None:
        """Make every learning rate a multiple of what it was at first."""
        for own, rates in zip(self.of_trials, self._rates, strict=True):
            for group, rate in zip(own.param_groups, rates, strict=True):
                group["lr"] = factor * rate

    def zero_grad(self) -> None:
        for values in self._stacked:
            values.grad = None

    def step(self) -> None:
        if len(self._parts) > 1:
            self._hand_out_gradients()
        for optimiser in self.of_trials:
            optimiser.step()

    def _hand_out_gradients(self) -> None:
        for values, *own in zip(self._stacked, *self._parts, strict=True):
            gradients = [None] * len(own) if values.grad is None else values.grad.split(self._seeds)
            for part, gradient in zip(own, gradients, strict=True):
                part.grad = gradient


class _Group:
    """The seeds that train together: their stacked parameters, optimisers and best weights.

    Where there are several trials, the replicas are those of all seeds in the first trial, then
    those of all seeds in the second, and so on: `members` has the seed of each.
    """

    def __init__(self, run: _Run, seeds: Sequence[int]) -> None:
        self.run, self.seeds = run, tuple(seeds)
        self.members = self.seeds * len(run.optimisers)
        whole = Pool(run.data, run.split, seeds, run.tasks, run.device, run.dtype)
        self.pool = whole.repeated(len(run.optimisers))
        self.tasks = self.pool.tasks
        self.replicas = Replicas(
            run.build,
            seeds,
            times=len(run.optimisers),
            weighting=run.weighting,
            initialise=run.initialise,
            device=run.device,
            dtype=run.dtype,
            vectorise=run.vectorise,
        )
        example = self.pool.inputs[self.pool.rows["train"][0, :1]]
        self.inference = self.replicas.operations(example, self.tasks)
        self.streams = self._streams()
        # Tasks that take turns each have an optimiser of their own.
        turns = len(self.streams) if run.sampling == "alternating" else 1
        self.optimisers = [self._optimisers() for _ in range(turns)]
        # Each criterion is a set of tasks whose validation loss decides which weights are kept.
        self.criteria = self._criteria()
        shape = (len(self.criteria), len(self.members))
        self.best: list[State] = [self.replicas.snapshot() for _ in self.criteria]
        self.best_loss = torch.full(shape, torch.inf, dtype=torch.float64)
        self.waited = torch.zeros(shape, dtype=torch.long)
        self.stopped_at = torch.zeros(len(self.members), dtype=torch.long)
        self.step = 0
        self.history: list[tuple[int, str, Tensor]] = []

    def _optimisers(self) -> "_Optimisers":
        makers, each = self.run.optimisers.values(), len(self.seeds)
        return _Optimisers(self.replicas.trained, list(makers), each)

    def _streams(self) -> list[tuple[tuple[Task, ...], Minibatches]]:
        """The tasks that each stream of minibatches serves, and the stream."""
        rows = self.pool.rows["train"].shape[1]
        if self.run.sampling == "mixed":
            positions = list(torch.arange(rows).expand(len(self.seeds), -1))
            whole = Minibatches(positions, self.run.batch_size, self.seeds, "mixed")
            return [(self.tasks, whole)]
        streams = []
        for task in self.tasks:
            marks = self.pool.labelled["train"][task.name][: len(self.seeds)]
            positions = [torch.nonzero(known)[:, 0] for known in marks]
            own = Minibatches(positions, self.run.batch_size, self.seeds, task.name)
            streams.append(((task,), own))
        return streams

    def _criteria(self) -> list[tuple[Task, ...]]:
        names = [task.name for task in self.tasks]
        if self.run.stopping not in (None, "joint", "each", *names):
            raise UsageError(
                f"There is no stopping {self.run.stopping!r}: choose joint, each, None or one of "
                f"{names}."
            )
        if self.run.stopping is None or not self.pool.rows["validation"].shape[1]:
            return []
        if self.run.stopping == "each":
            return [(task,) for task in self.tasks]
        named = tuple(task for task in self.tasks if task.name == self.run.stopping)
        return [named or self.tasks]

    # All replicas at once ---------------------------------------------------------------------

    @staticmethod
    def _losses(
        tasks: Sequence[Task], replica: Replica, inputs: Tensor, targets: dict[str, Tensor]
    ) -> list[Float[Tensor, " examples"]]:
        """The loss of each example of one replica, task by task."""
        predictions = replica.model(inputs)
        return [task.loss(predictions[task.name], targets[task.name]) for task in tasks]

    def _objective(
        self, served: Sequence[tuple[Task, ...]], replica: Replica, *batches: tuple
    ) -> tuple[list[Float[Tensor, ""]], Float[Tensor, ""]]:
        """The losses of one replica's step, and what the step minimises.

        The losses stay apart, so that a task has no gradient at all by another task's head.
        """
        losses = []
        for tasks, (inputs, targets, marks) in zip(served, batches, strict=True):
            each_task = self._losses(tasks, replica, inputs, targets)
            for task, each in zip(tasks, each_task, strict=True):
                if task.name in marks:
                    known = marks[task.name]
                    # A minibatch without a label of the task has nothing to say about it.
                    losses.append((each * known).sum() / known.sum().clamp(min=1))
                else:
                    losses.append(each.mean())
        taking_turns = len(losses) < len(self.tasks)
        total = losses[0] if taking_turns else self._weighted(replica, torch.stack(losses))
        if self.run.regulariser is not None:
            total = total + self.run.regulariser(replica.model)
        return losses, total

    @staticmethod
    def _weighted(replica: Replica, losses: Float[Tensor, " tasks"]) -> Float[Tensor, ""]:
        return losses.sum() if replica.weighting is None else replica.weighting(losses)

    # The loop ---------------------------------------------------------------------------------

    def train(self, advanced: Callable[[int], Any]) -> "_Group":
        """Train until every seed has stopped; `advanced` is told of the steps as they are taken."""
        self._resume()
        advanced(self.step * len(self.members))
        while self.step < self.run.steps and not self._all_stopped():
            steps = min(self.run.every, self.run.steps - self.step)
            self._take(steps)
            self._validate()
            self._save()
            advanced(steps * len(self.members))
        advanced((self.run.steps - self.step) * len(self.members))
        self.stopped_at[self.stopped_at == 0] = self.step
        return self

    def _serving(self, step: int) -> Sequence[int]:
        """The streams that a step learns from: all of them, or the one whose turn it is."""
        streams = len(self.streams)
        return [step % streams] if self.run.sampling == "alternating" else range(streams)

    def _take(self, steps: int) -> None:
        """Take some optimiser steps and note the mean loss of each task over them."""
        members, tasks = len(self.members), len(self.tasks)
        # Left unset where a task did not take part in a step.
        losses = torch.full((steps, members, tasks), torch.nan, dtype=torch.float64)
        losses = losses.to(self.run.device)
        rows_of_step = members * sum(stream.size for _, stream in self.streams)
        at_once = max(1, self.pool.rows_at_once // rows_of_step)
        for start in range(0, steps, at_once):
            numbers = range(start, min(start + at_once, steps))
            serving = [self._serving(self.step + number) for number in numbers]
            ahead = []
            for index, (_, stream) in enumerate(self.streams):
                positions = stream.take(sum(index in chosen for chosen in serving))
                # All trials see the same batches.
                positions = positions.repeat(1, len(self.run.optimisers), 1)
                ahead.append(_unbound(self.pool.take("train", positions)))
            for number, chosen in zip(numbers, serving, strict=True):
                batches = [next(ahead[index]) for index in chosen]
                self._set_rates(self.step + number)
                self._step(chosen, batches, losses[number])
        self._check_finite(losses)
        self.step += steps
        self.history.append((self.step, "train", losses.nanmean(0).cpu()))

    def _set_rates(self, step: int) -> None:
        """The learning rates of a step. A function of the step alone, so that training resumes."""
        if self.run.schedule is not None:
            for optimisers in self.optimisers:
                optimisers.set_rates(self.run.schedule(step))

    def _step(
        self, chosen: Sequence[int], batches: list[tuple], losses: Float[Tensor, "members tasks"]
    ) -> None:
        """One optimiser step on the batches of the chosen streams; fills in its losses."""
        served = [self.streams[index][0] for index in chosen]
        optimiser = self.optimisers[chosen[0] if len(self.optimisers) > 1 else 0]
        optimiser.zero_grad()
        own, total = self.replicas.map(partial(self._objective, served))(*batches)
        if self.run.balancer is None:
            total.sum().backward()
        else:
            self._balance(self.run.balancer, own, total)
        optimiser.step()
        if self.run.proximal is not None:
            self._pull(self.run.proximal, optimiser.rate)
        for task, values in zip((task for tasks in served for task in tasks), own, strict=True):
            losses[:, self.tasks.index(task)] = values.detach()

    def _balance(
        self,
        balancer: Callable[[Tensor], Tensor],
        losses: Sequence[Float[Tensor, " seeds"]],
        total: Float[Tensor, " seeds"],
    ) -> None:
        """Gradients by the balancer's weights for what tasks share, by their own for heads."""
        leaves = [parameter for _, parameter in self.replicas.trained]

        def gradients(of: Tensor) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(of.sum(), leaves, retain_graph=True, allow_unused=True)

        by_task = list(zip(*(gradients(loss) for loss in losses), strict=True))
        filled = [
            torch.stack([torch.zeros_like(leaf) if g is None else g for g in own], dim=1)
            for leaf, own in zip(leaves, by_task, strict=True)
        ]  # each (seeds, tasks, ...)
        shared = [sum(g is not None for g in own) > 1 for own in by_task]
        jacobian = torch.cat(
            [own.flatten(2) for own, is_shared in zip(filled, shared, strict=True) if is_shared],
            dim=2,
        )
        weights = torch.stack([balancer(gramian) for gramian in jacobian @ jacobian.mT])
        penalty = gradients(total - sum(losses)) if self.run.regulariser else [None] * len(leaves)
        for leaf, own, is_shared, extra in zip(leaves, filled, shared, penalty, strict=True):
            combined = torch.einsum("sk,sk...->s...", weights, own) if is_shared else own.sum(1)
            leaf.grad = combined if extra is None else combined + extra

    @torch.no_grad()
    def _pull(
        self, proximal: Callable[[nn.Module, float], dict[str, Tensor]], step_size: float
    ) -> None:
        """The proximal map of each replica's model, in place."""
        changed = self.replicas.map(lambda replica: proximal(replica.model, step_size))()
        for name, values in changed.items():
            self.replicas.parameters[f"model.{name}"].copy_(values)

    def _check_finite(self, losses: Float[Tensor, "steps members tasks"]) -> None:
        trained = torch.zeros(len(losses), 1, len(self.tasks), dtype=torch.bool)
        for number, row in enumerate(trained[:, 0]):
            for index in self._serving(self.step + number):
                for task in self.streams[index][0]:
                    row[self.tasks.index(task)] = True
        training = (self.stopped_at == 0).view(1, -1, 1)
        wrong = torch.nonzero(~torch.isfinite(losses.cpu()) & trained & training)
        if len(wrong):
            step, member, task = wrong[0].tolist()
            raise TrainingDivergedError(
                f"The loss of task {self.tasks[task].name!r} became "
                f"{float(losses[step, member, task])} for seed {self.members[member]} "
                f"{self._of_trial(member)}at step {self.step + step + 1}: lower the learning rate, "
                "or look for extreme values in the task's inputs and targets."
            )

    def _of_trial(self, member: int) -> str:
        trials = list(self.run.optimisers)
        return f"in the trial {trials[member // len(self.seeds)]!r} " if len(trials) > 1 else ""

    # Validation and early stopping ------------------------------------------------------------

    def _all_stopped(self) -> bool:
        return bool((self.stopped_at > 0).all())

    @torch.no_grad()
    def _validate(self) -> None:
        """Keep each seed's best weights by its validation loss; stop seeds that wait too long."""
        if not self.pool.rows["validation"].shape[1]:
            return
        self.replicas.train(False)
        losses_of = self.replicas.map(partial(self._losses, self.tasks))
        shape = (2, len(self.members), len(self.tasks))
        sums = torch.zeros(shape, dtype=torch.float64, device=self.run.device)
        for positions in self.pool.slices("validation"):
            inputs, targets, marks = self.pool.take("validation", positions)
            for column, each in enumerate(losses_of(inputs, targets)):
                known = marks.get(self.tasks[column].name, torch.ones_like(each))
                sums[:, :, column] += torch.stack([(each * known).sum(1), known.sum(1)])
        self.replicas.train(True)
        losses = sums[0] / sums[1]
        self.history.append((self.step, "validation", losses.double().cpu()))
        training = self.stopped_at == 0
        for number, tasks in enumerate(self.criteria):
            if len(tasks) == 1:
                value = losses[:, self.tasks.index(tasks[0])]
            else:
                value = self.replicas.map(self._weighted)(losses)
            value = value.double().cpu()
            best = self.best_loss[number]
            # An improvement within rounding is none: a network that has converged must stop at the
            # same step on every machine.
            least = torch.where(best.isfinite(), best - ROUNDING * best.abs(), best)
            better = (value < least) & training
            self.best_loss[number] = torch.where(better, value, self.best_loss[number])
            self.waited[number] = torch.where(better, 0, self.waited[number] + 1)
            where = better.to(self.run.device)
            state = self.replicas.state
            for name, kept in self.best[number].items():
                kept[where] = state[name][where]
        if self.run.patience is not None and self.criteria:
            exhausted = (self.waited >= self.run.patience).all(0) & training
            self.stopped_at[exhausted] = self.step

    # Checkpoints ------------------------------------------------------------------------------

    def _every_optimiser(self) -> list[torch.optim.Optimizer]:
        return [own for optimisers in self.optimisers for own in optimisers.of_trials]

    @property
    def checkpoints(self) -> list[Path]:
        """The file that this group's training resumes from, if there is to be one."""
        folder = self.run.checkpoint
        name = f"seeds_{self.seeds[0]}_to_{self.seeds[-1]}.pt"
        return [] if folder is None else [folder / name]

    @cached_property
    def _fingerprint(self) -> str:
        """A hash of all that decides the numbers: settings, data, splits and initial weights."""
        run = self.run
        settings = (
            self.seeds, self.tasks, run.steps, run.batch_size, run.sampling, run.stopping,
            run.patience, run.every, run.dtype, [o.defaults for o in self._every_optimiser()],
            run.schedule and [run.schedule(step) for step in range(run.steps)],
        )  # fmt: skip
        digest = hashlib.sha256(repr(settings).encode())
        state = {**self.replicas.state, **self.pool.rows, **self.pool.targets}
        for values in (*state.values(), self.pool.inputs):
            # Bytes, not numbers: NumPy has no bfloat16.
            digest.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _save(self) -> None:
        for path in self.checkpoints:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            state = {
                "fingerprint": self._fingerprint,
                "step": self.step,
                "state": {name: values.detach() for name, values in self.replicas.state.items()},
                "optimisers": [own.state_dict() for own in self._every_optimiser()],
                "best": self.best,
                "stopping": [self.best_loss, self.waited, self.stopped_at],
                "history": self.history,
            }
            torch.save(state, unfinished)
            unfinished.replace(path)

    def _resume(self) -> None:
        for path in self.checkpoints:
            # Before anything is loaded: the initial weights are part of the fingerprint.
            fingerprint = self._fingerprint
            if not path.exists():
                continue
            saved = torch.load(path, map_location=self.run.device, weights_only=True)
            if saved["fingerprint"] != fingerprint:
                raise UsageError(
                    f"The checkpoint {path} belongs to a training with other settings, data or "
                    "seeds: remove it, or name another folder."
                )
            with torch.no_grad():
                for name, values in self.replicas.state.items():
                    values.copy_(saved["state"][name])
            for optimiser, state in zip(self._every_optimiser(), saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            self.best, self.history = saved["best"], saved["history"]
            self.best_loss, self.waited, self.stopped_at = (v.cpu() for v in saved["stopping"])
            for index, (_, stream) in enumerate(self.streams):
                stream.take(sum(index in self._serving(step) for step in range(saved["step"])))
            self.step = saved["step"]

    # Results ----------------------------------------------------------------------------------

    @torch.no_grad()
    def finish(self) -> dict[str, Fit]:
        """Test the kept weights of every trial and tabulate everything."""
        kept = self.best if self.criteria else [self.replicas.snapshot()]
        every_task_alone = self.run.stopping == "each" and len(kept) > 1
        rows: list[dict[str, Any]] = []
        predictions: dict[str, np.ndarray] = {}
        replicas: dict[str, list[Callable[[], Replica]]] = {}
        for number, state in enumerate(kept):
            tasks = self.criteria[number] if every_task_alone else self.tasks
            # Made when somebody asks for it: most experiments look at results only.
            own = [cache(partial(self.replicas.one, state, n)) for n in range(len(self.members))]
            replicas |= {task.name: own for task in tasks}
            for part, of_seeds in self.pool.rows.items():
                if not of_seeds.shape[1] or part not in self.run.scored:
                    continue
                predicted = self._predict(part, state)
                rows += [
                    row for task in tasks for row in self._scores(task, part, predicted[task.name])
                ]
                if part == "test":
                    as_double = {task.name: predicted[task.name].double() for task in tasks}
                    predictions |= {name: v.cpu().numpy() for name, v in as_double.items()}
        history = [
            {"member": member, "step": step, "task": task.name, "part": part, "loss": float(loss)}
            for step, part, losses in self.history
            for member, of_member in enumerate(losses)
            for task, loss in zip(self.tasks, of_member, strict=True)
        ]
        steps = self.stopped_at.numpy()
        rows_of_step = sum(stream.size for _, stream in self.streams) / len(self.optimisers)
        training = 3.0 * self.inference * rows_of_step * steps
        results, histories = self._by_trial(rows), self._by_trial(history)
        fits = {}
        for number, trial in enumerate(self.run.optimisers):
            of_trial = slice(number * len(self.seeds), (number + 1) * len(self.seeds))
            fits[trial] = Fit(
                self.tasks,
                self.seeds,
                results[number],
                histories[number],
                {name: values[of_trial] for name, values in predictions.items()},
                self.pool.test[of_trial],
                Cost(self.replicas.size, self.inference, training[of_trial], steps[of_trial]),
                {name: own[of_trial] for name, own in replicas.items()},
            )
        return fits

    def _by_trial(self, rows: list[dict[str, Any]]) -> list[pd.DataFrame]:
        """A table for each trial, with the seeds instead of the members."""
        each = len(self.seeds)
        of_trials: list[list[dict[str, Any]]] = [[] for _ in self.run.optimisers]
        for row in rows:
            member = row.pop("member")
            of_trials[member // each].append({"seed": self.members[member]} | row)
        return [pd.DataFrame(own) for own in of_trials]

    def _predict(self, part: str, state: State) -> dict[str, Tensor]:
        self.replicas.train(False)
        predict = self.replicas.map(lambda replica, inputs: dict(replica.model(inputs)), state)
        slices = [
            predict(self.pool.take(part, positions)[0]) for positions in self.pool.slices(part)
        ]
        return {
            task.name: torch.cat([piece[task.name] for piece in slices], dim=1)
            for task in self.tasks
        }

    def _scores(self, task: Task, part: str, predicted: Tensor) -> Iterable[dict[str, Any]]:
        targets = self.pool.targets[task.name][self.pool.rows[part].to(self.run.device)]
        marks = self.pool.labelled[part][task.name]
        for member, (own, target, known) in enumerate(zip(predicted, targets, marks, strict=True)):
            known = known.to(self.run.device)
            about = {"member": member, "task": task.name, "part": part}
            loss = float(task.loss(own[known], target[known]).mean())
            yield about | {
                "metric": task.metric.name,
                "value": task.score(own[known], target[known]),
            }
            yield about | {"metric": "loss", "value": loss}


def _unbound(batches: Any) -> Iterator[Any]:
    """The batches of one step after another, from tensors whose first axis is the step."""
    leaves, shape = tree_flatten(batches)
    for step in zip(*leaves, strict=True):
        yield tree_unflatten(list(step), shape)


def _join(fits: Sequence[Fit]) -> Fit:
    """The results of groups of seeds as one."""
    first = fits[0]
    return Fit(
        first.tasks,
        tuple(seed for each in fits for seed in each.seeds),
        pd.concat([each.results for each in fits], ignore_index=True),
        pd.concat([each.history for each in fits], ignore_index=True),
        {n: np.concatenate([each.predictions[n] for each in fits]) for n in first.predictions},
        np.concatenate([each.test for each in fits]),
        Cost(
            first.cost.parameters,
            first.cost.inference,
            np.concatenate([each.cost.training for each in fits]),
            np.concatenate([each.cost.steps for each in fits]),
        ),
        {n: [r for each in fits for r in each._replicas[n]] for n in first._replicas},
    )
