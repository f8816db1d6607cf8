"""Training: one readable loop in which the replicas of all seeds learn at once.

Every seed has its own initialisation, split and minibatch order. The parameters of all seeds'
replicas are stacked, and one call of `torch.func.vmap` evaluates them together: the losses of
different seeds share no parameter, so the gradient of their sum holds each seed's own gradient.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.devices import resolve
from mtlbook.errors import UsageError
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.gradients import Combiners
from mtlbook.training.objective import task_losses
from mtlbook.training.optimisers import Optimisers
from mtlbook.training.pool import Pool
from mtlbook.training.progress import bar as progress_bar
from mtlbook.training.replicas import Build, Replicas, State
from mtlbook.training.results import Cost, Evaluation, Fit, Kept, join, scores
from mtlbook.training.sampling import Turn
from mtlbook.training.settings import Settings, Trial
from mtlbook.training.stopping import Stopping

Data = MultiTaskData | Callable[[int], MultiTaskData]


class TrainingDivergedError(UsageError):
    """A loss became NaN or infinite: the message names task, seed and step."""


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
        >>> from mtlbook import HardSharing, Task
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
        >>> from mtlbook import HardSharing, Task, select
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
                training = _Training(build, data, group, trials, settings, device)
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


class _Training:
    """The seeds that train together: their stacked parameters, optimisers and best weights.

    Where there are several trials, the replicas are those of all seeds in the first trial, then
    those of all seeds in the second, and so on: `members` has the seed of each.
    """

    def __init__(
        self,
        build: Build,
        data: Data,
        seeds: Sequence[int],
        trials: Mapping[str, Trial],
        settings: Settings,
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        self.seeds, self.trials = tuple(seeds), tuple(trials)
        self.members = self.seeds * len(trials)
        pool = Pool(data, settings.split, seeds, settings.tasks, device, settings.dtype)
        self.plan = settings.sampler.plan(pool, seeds)
        self.replicas = Replicas(
            build,
            [pool.training_data(number) for number in range(len(seeds))],
            seeds,
            times=len(trials),
            start=_start(settings),
            device=device,
            dtype=settings.dtype,
            vectorise=settings.vectorise,
        )
        self.pool = pool.repeated(len(trials))
        self.tasks = pool.tasks
        self.names = tuple(task.name for task in self.tasks)
        example = self.pool.take("train", torch.zeros(1, len(self.members), 1, dtype=torch.long))
        first = _first_example(example.inputs)
        self.inference = self.replicas.operations(first, self.tasks)
        of_stream = {name: stream.tasks for name, stream in self.plan.streams.items()}
        self.objective = settings.objective or task_losses(self.tasks, of_stream)
        self.combiners = Combiners(
            [own.combiner or settings.combiner for own in trials.values()],
            self.objective.names,
            self.seeds,
            device,
            settings.dtype,
        )
        makers = [
            own.optimiser or settings.optimiser or settings.default_optimiser
            for own in trials.values()
        ]
        self.optimisers = [
            Optimisers(self.replicas.trained, self.combiners.trained, makers, len(self.seeds))
            for _ in range(self.plan.optimisers)
        ]
        has_validation = bool(self.pool.rows["validation"].shape[1])
        rule = settings.stopping if has_validation else None
        self.stopping = Stopping(rule, settings.patience, self.names, len(self.members))
        # An unknown rule is an error without validation rows, too.
        Stopping(settings.stopping, None, self.names, 1)
        self.best = [self._snapshot() for _ in self.stopping.criteria]
        self.earlier: State = {}
        self.step = 0
        self.history: list[tuple[int, str, tuple[str, ...], Tensor]] = []

    def _snapshot(self) -> tuple[State, State]:
        """Copies of the models' and of the combiners' tensors as they are now."""
        of_combiners = {
            f"{trial}.{name}": values.detach().clone()
            for trial, own in enumerate(self.combiners.of_trials)
            for name, values in _tensors(own).items()
        }
        return self.replicas.snapshot(), of_combiners

    # The loop ---------------------------------------------------------------------------------

    def run(self, advanced: Callable[[int], Any]) -> dict[str, Fit]:
        """Train until every seed has stopped; `advanced` is told of the steps as they are taken."""
        if self.stopping.needs_first:
            self.stopping.begin(self._validation_losses())
        while self.step < self.settings.steps and bool(self.stopping.training.any()):
            steps = min(self.settings.interval, self.settings.steps - self.step)
            self._take(steps)
            self._validate()
            advanced(steps * len(self.members))
        advanced((self.settings.steps - self.step) * len(self.members))
        self.stopping.stopped_at[self.stopping.training] = self.step
        return self._results()

    def _take(self, steps: int) -> None:
        """Take some optimiser steps and note the mean of each loss over them."""
        names = self.objective.names
        losses = torch.empty(
            (steps, len(self.members), len(names)), dtype=torch.float64, device=self.device
        )
        about = torch.zeros(losses.shape, dtype=torch.bool, device=self.device)
        rows_of_step = len(self.members) * sum(own.size for own in self.plan.streams.values())
        at_once = max(1, self.pool.rows_at_once // rows_of_step)
        for start in range(0, steps, at_once):
            numbers = range(self.step + start, self.step + min(start + at_once, steps))
            turns = [self._turn(number) for number in numbers]
            ahead = self._batches(turns)
            for number, turn in zip(numbers, turns, strict=True):
                batches = {name: next(ahead[name]) for name in turn.streams}
                row = number - self.step
                losses[row], about[row] = self._one_step(number, turn, batches)
        self._check_finite(losses, about)
        self.step += steps
        seen = torch.where(about, losses, torch.nan)
        self.history.append((self.step, "train", names, seen.nanmean(0).cpu()))

    def _turn(self, number: int) -> Turn:
        """Whose turn a step is, without the streams that are only looked ahead to."""
        turn = self.plan.turn(number)
        ahead = {own.looks_ahead.stream for own in self.combiners.of_trials if own.looks_ahead}
        return replace(turn, streams=tuple(name for name in turn.streams if name not in ahead))

    def _batches(self, turns: Sequence[Turn]) -> dict[str, Iterator[Batch]]:
        """The batches of some steps, gathered together, stream by stream."""
        ahead = {}
        for name, stream in self.plan.streams.items():
            positions, chosen = stream.take(sum(name in turn.streams for turn in turns))
            # All trials see the same batches.
            positions = positions.repeat(1, len(self.trials), 1)
            batch = self.pool.take(stream.part, positions)
            if chosen is not None:
                batch = self._only(batch, chosen.repeat(1, len(self.trials), 1), stream.tasks)
            ahead[name] = _unbound(batch)
        return ahead

    def _only(self, batch: Batch, chosen: Bool[Tensor, "..."], tasks: Sequence[str]) -> Batch:
        """A batch that is about the chosen task of each step and replica, and no other."""
        rows = next(iter(batch.targets.values())).shape[2]
        served = chosen.to(self.device, self.settings.dtype)
        marks = {
            task: served[..., place].unsqueeze(-1).expand(*served.shape[:2], rows)
            * batch.labelled.get(task, torch.ones((), device=self.device, dtype=served.dtype))
            for place, task in enumerate(tasks)
        }
        return batch._replace(labelled=marks)

    def _one_step(
        self, number: int, turn: Turn, batches: Mapping[str, Batch]
    ) -> tuple[Float[Tensor, "replicas losses"], Bool[Tensor, "replicas losses"]]:
        """One optimiser step; the losses before it, and which of them it was about."""
        optimiser = self.optimisers[turn.optimiser]
        if self.settings.schedule is not None:
            optimiser.set_rates(self.settings.schedule(number / self.settings.steps))
        self.replicas.begin_step(number, self.settings.steps)
        if self.settings.regulariser is not None and (turn.begins or number == 0):
            self.earlier = self.replicas.snapshot()
        served = tuple(
            name
            for name in self.names
            if any(name in self.plan.streams[stream].tasks for stream in turn.streams)
        )
        context = StepContext(number, self.settings.steps, served, optimiser.rate)
        optimiser.zero_grad()
        losses, penalty, labelled = self._losses(context, batches)
        self.combiners.backward(
            losses,
            labelled,
            penalty,
            self.replicas.trained,
            context.progress,
            self._losses_elsewhere,
        )
        if self.settings.clip is not None:
            optimiser.clip(self.settings.clip)
        optimiser.step()
        if self.combiners.look_after:
            with torch.no_grad():
                self.combiners.after(self._losses(context, batches)[0])
        if self.settings.after_step is not None:
            after_step = self.settings.after_step
            changed = self.replicas.map(lambda model: dict(after_step(model, context)))
            with torch.no_grad():
                self.replicas.assign(changed())
        return losses.detach(), labelled

    def _losses(
        self, context: StepContext, batches: Mapping[str, Batch], state: State | None = None
    ) -> tuple[Tensor, Tensor | None, Bool[Tensor, "replicas losses"]]:
        """The losses of every replica, its penalty, and which losses its batch is about."""
        regulariser, compute = self.settings.regulariser, self.objective.compute

        def one(
            model: nn.Module, batches: Mapping[str, Batch], earlier: State
        ) -> tuple[dict[str, Tensor], list[Tensor]]:
            losses = dict(compute(model, batches, context))
            if regulariser is None:
                return losses, []
            return losses, [regulariser(model, replace(context, earlier=earlier))]

        losses, penalties = self.replicas.map(one, state)(dict(batches), self.earlier)
        missing = losses.keys() - set(self.objective.names)
        if missing:
            raise UsageError(
                f"The objective computes the losses {sorted(missing)}, which its names "
                f"{list(self.objective.names)} do not have."
            )
        shape = next(iter(losses.values())).shape
        about = {name: self._about(name, batches, shape) for name in losses}
        absent = torch.zeros(shape, dtype=self.settings.dtype, device=self.device)
        of_names = [losses.get(name, absent) for name in self.objective.names]
        marks = [about.get(name, absent.bool()) for name in self.objective.names]
        penalty = penalties[0] if penalties else None
        return torch.stack(of_names, dim=1), penalty, torch.stack(marks, dim=1)

    @staticmethod
    def _about(
        name: str, batches: Mapping[str, Batch], shape: torch.Size
    ) -> Bool[Tensor, " replicas"]:
        """Whether any row of a step's batches carries a label of a loss's task."""
        device = next(iter(next(iter(batches.values())).targets.values())).device
        found = torch.zeros(shape, dtype=torch.bool, device=device)
        for batch in batches.values():
            known = batch.labelled.get(name)
            found = found | (torch.ones_like(found) if known is None else (known > 0).any(-1))
        return found

    def _losses_elsewhere(
        self, stream: str, parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "replicas losses"]:
        """The losses on a batch of another stream, at other parameters."""
        if stream not in self.plan.streams:
            raise UsageError(
                f"A combiner looks ahead to the stream {stream!r}, which the sampler does not "
                f"draw: its streams are {list(self.plan.streams)}."
            )
        positions, _ = self.plan.streams[stream].take(1)
        batch = self.pool.take(
            self.plan.streams[stream].part, positions.repeat(1, len(self.trials), 1)
        )
        context = StepContext(self.step, self.settings.steps, self.names, self.optimisers[0].rate)
        state = self.replicas.state | dict(parameters)
        return self._losses(context, {stream: next(_unbound(batch))}, state)[0]

    def _check_finite(self, losses: Tensor, about: Tensor) -> None:
        """Raise for the first loss that is not finite, of a replica that still trains."""
        training = self.stopping.training.view(1, -1, 1)
        wrong = torch.nonzero((~torch.isfinite(losses) & about).cpu() & training)
        if len(wrong):
            step, member, loss = wrong[0].tolist()
            raise self._diverged(
                f"The loss of task {self.objective.names[loss]!r} became "
                f"{float(losses[step, member, loss])}",
                member,
                self.step + step + 1,
            )

    def _diverged(self, what: str, member: int, step: int) -> TrainingDivergedError:
        trial = self.trials[member // len(self.seeds)]
        of_trial = f"in the trial {trial!r} " if len(self.trials) > 1 else ""
        return TrainingDivergedError(
            f"{what} for seed {self.members[member]} {of_trial}at step {step}: lower the learning "
            "rate, or look for extreme values in the task's inputs and targets."
        )

    # Validation -------------------------------------------------------------------------------

    def _validate(self) -> None:
        """Keep each replica's best weights; stop replicas that wait too long; call back."""
        losses = torch.empty(len(self.members), 0)
        if self.pool.rows["validation"].shape[1]:
            losses = self._validation_losses()
            wrong = torch.nonzero(~torch.isfinite(losses) & self.stopping.training.unsqueeze(1))
            if len(wrong):
                member, task = wrong[0].tolist()
                raise self._diverged(
                    f"The validation loss of task {self.names[task]!r} became "
                    f"{float(losses[member, task])}",
                    member,
                    self.step,
                )
            self.history.append((self.step, "validation", self.names, losses))
            self.stopping.see(losses, self.step, self._keep)
        for callback in self.settings.callbacks:
            shape = (len(self.trials), len(self.seeds), losses.shape[1])
            by_task = losses.reshape(shape).unbind(-1)
            callback(
                Evaluation(
                    self.step,
                    self.settings.steps,
                    self.trials,
                    self.seeds,
                    dict(zip(self.names, by_task, strict=False)),
                    self._model_now,
                )
            )

    @torch.no_grad()
    def _validation_losses(self) -> Float[Tensor, "replicas tasks"]:
        self.replicas.train(False)

        def sums(model: nn.Module, batch: Batch) -> list[Tensor]:
            predictions = model(batch.inputs)
            found = []
            for task in self.tasks:
                each = task.loss(predictions[task.name], batch.targets[task.name])
                known = batch.labelled.get(task.name, torch.ones_like(each))
                found += [(each * known).sum(), known.sum()]
            return found

        total = torch.zeros(2 * len(self.tasks), len(self.members), dtype=torch.float64)
        for positions in self.pool.slices("validation"):
            batch = self.pool.take("validation", positions)
            total += torch.stack(self.replicas.map(sums)(batch)).double().cpu()
        self.replicas.train(True)
        return (total[::2] / total[1::2]).T

    @torch.no_grad()
    def _keep(self, criterion: int, better: Bool[Tensor, " replicas"]) -> None:
        """Keep the present weights of some replicas as the best of a criterion."""
        where = better.to(self.device)
        of_models, of_combiners = self.best[criterion]
        for name, values in self.replicas.state.items():
            of_models[name][where] = values[where]
        each = len(self.seeds)
        for trial, own in enumerate(self.combiners.of_trials):
            mine = where[trial * each : (trial + 1) * each]
            for name, values in _tensors(own).items():
                of_combiners[f"{trial}.{name}"][mine] = values[mine]

    def _model_now(self, trial: str, seed: int) -> nn.Module:
        number = self.seeds.index(seed)
        member = self.trials.index(trial) * len(self.seeds) + number
        state = {name: values[member : member + 1] for name, values in self.replicas.state.items()}
        return Kept((self.replicas.modules[number],), state, None).model(0)

    # Results ----------------------------------------------------------------------------------

    @torch.no_grad()
    def _results(self) -> dict[str, Fit]:
        """Test the kept weights of every trial and tabulate everything."""
        kept = self.best or [self._snapshot()]
        criteria = self.stopping.criteria or [self.names]
        rows: list[dict[str, Any]] = []
        predictions: dict[str, np.ndarray] = {}
        for tasks, (state, _) in zip(criteria, kept, strict=True):
            own = [task for task in self.tasks if task.name in tasks]
            for part in self.settings.evaluate_on:
                if self.pool.rows[part].shape[1]:
                    predicted = self._predict(part, state)
                    rows += [row for task in own for row in self._scores(task, part, predicted)]
                    if part == "test":
                        of_test = {task.name: predicted[task.name].double() for task in own}
                        predictions |= {name: v.cpu().numpy() for name, v in of_test.items()}
        history = [
            {"member": member, "step": step, "task": name, "part": part, "loss": float(loss)}
            for step, part, names, losses in self.history
            for member, of_member in enumerate(losses)
            for name, loss in zip(names, of_member, strict=True)
        ]
        steps = self.stopping.stopped_at.numpy()
        rows_of_step = sum(own.size for own in self.plan.streams.values()) / self.plan.optimisers
        training = 3.0 * self.inference * rows_of_step * steps
        results, histories = self._by_trial(rows), self._by_trial(history)
        fits = {}
        each = len(self.seeds)
        for number, trial in enumerate(self.trials):
            of_trial = slice(number * each, (number + 1) * each)
            own = [self._kept(number, of_trial, *state) for state in kept]
            fits[trial] = Fit(
                self.tasks,
                self.seeds,
                results[number],
                histories[number],
                {name: values[of_trial] for name, values in predictions.items()},
                self.pool.test[of_trial],
                Cost(
                    self.replicas.size + self._size_of_combiner(number),
                    self.inference,
                    training[of_trial],
                    steps[of_trial],
                ),
                {
                    name: [group]
                    for tasks, group in zip(criteria, own, strict=True)
                    for name in tasks
                },
            )
        return fits

    def _size_of_combiner(self, trial: int) -> int:
        return sum(values[0].numel() for values in self.combiners.trained[trial].values())

    def _kept(self, trial: int, of_trial: slice, state: State, of_combiners: State) -> Kept:
        combiner = None
        if self.combiners.given[trial]:
            combiner = deepcopy(self.combiners.of_trials[trial]).cpu()
            with torch.no_grad():
                for name, values in _tensors(combiner).items():
                    values.copy_(of_combiners[f"{trial}.{name}"])
        own = {name: values[of_trial].cpu() for name, values in state.items()}
        # On the CPU like all that is kept: what was trained on a GPU is opened where there is none.
        modules = tuple(module.cpu() for module in self.replicas.modules)
        return Kept(modules, own, combiner)

    def _by_trial(self, rows: list[dict[str, Any]]) -> list[pd.DataFrame]:
        """A table for each trial, with the seeds instead of the members."""
        each = len(self.seeds)
        of_trials: list[list[dict[str, Any]]] = [[] for _ in self.trials]
        for row in rows:
            member = row.pop("member")
            of_trials[member // each].append({"seed": self.members[member]} | row)
        return [pd.DataFrame(own) for own in of_trials]

    def _predict(self, part: str, state: State) -> dict[str, Tensor]:
        self.replicas.train(False)
        predict = self.replicas.map(lambda model, inputs: dict(model(inputs)), state)
        slices = [
            predict(self.pool.take(part, positions).inputs) for positions in self.pool.slices(part)
        ]
        return {name: torch.cat([piece[name] for piece in slices], dim=1) for name in self.names}

    def _scores(
        self, task: Any, part: str, predicted: Mapping[str, Tensor]
    ) -> list[dict[str, Any]]:
        targets = self.pool.targets[task.name][self.pool.rows[part].to(self.device)]
        labelled = self.pool.labelled[part][task.name].to(self.device)
        return scores(task, part, predicted[task.name], targets, labelled)


def _start(settings: Settings) -> Callable[[nn.Module, int], None] | None:
    """What changes a fresh model before it is trained."""
    start = settings.start
    if not isinstance(start, Fit):
        return start

    def go_on(model: nn.Module, seed: int) -> None:
        trained = start.model(seed).state_dict()
        try:
            model.load_state_dict(trained)
        except RuntimeError as error:
            raise UsageError(
                f"The network does not start from the earlier training's weights: {error}. Make "
                "the same network, or let build(data, seed) change a copy of fit.model(seed)."
            ) from error

    return go_on


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _first_example(inputs: Any) -> Any:
    """One example of the first replica, from inputs with axes (steps, replicas, batch, ...)."""
    leaves, shape = tree_flatten(inputs)
    return tree_unflatten([values[0, 0] for values in leaves], shape)


def _unbound(batches: Batch) -> Iterator[Batch]:
    """The batches of one step after another, from tensors whose first axis is the step."""
    leaves, shape = tree_flatten(batches)
    for step in zip(*leaves, strict=True):
        yield tree_unflatten(list(step), shape)
