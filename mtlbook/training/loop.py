"""The loop: the seeds that train together take steps, are evaluated, and stop."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.training.context import Batch, StepContext, each_tensor
from mtlbook.training.evaluation import Evaluator, table_of_each_trial
from mtlbook.training.feed import Feed
from mtlbook.training.gradients import Combiners
from mtlbook.training.objective import StepLosses, task_losses
from mtlbook.training.optimisers import Optimisers
from mtlbook.training.pool import Pool
from mtlbook.training.replicas import Build, Replicas, State
from mtlbook.training.results import Cost, Evaluation, Fit, Kept
from mtlbook.training.sampling import Turn
from mtlbook.training.settings import Settings, Trial
from mtlbook.training.stopping import Stopping

Data = MultiTaskData | Callable[[int], MultiTaskData]


class TrainingDivergedError(UsageError):
    """A loss became NaN or infinite: the message names task, seed and step."""


class Training:
    """The seeds that train together: their stacked parameters, optimisers and best weights.

    Where there are several trials, the replicas are those of all seeds in the first trial, then
    those of all seeds in the second, and so on: `members` has the seed of each.

    Arguments are those of `fit_trials`, but for the device, which is one that exists.
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
        plan = settings.sampler.plan(pool, seeds)
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
        first = self.pool.take("train", torch.zeros(len(self.members), 1, dtype=torch.long))
        example = each_tensor(itemgetter(0), first.inputs)
        self.inference = self.replicas.operations(example, self.tasks)
        of_stream = {name: stream.tasks for name, stream in plan.streams.items()}
        self.objective = settings.objective or task_losses(self.tasks, of_stream)
        self.losses = StepLosses(self.replicas, self.objective, settings.regulariser)
        self.evaluator = Evaluator(self.replicas, self.pool)
        combiners = [own.combiner or settings.combiner for own in trials.values()]
        names = self.objective.names
        self.combiners = Combiners(combiners, names, self.seeds, device, settings.dtype)
        ahead = {own.looks_ahead.stream for own in combiners if own and own.looks_ahead}
        self.feed = Feed(self.pool, plan, len(trials), ahead)
        makers = [
            own.optimiser or settings.optimiser or settings.default_optimiser
            for own in trials.values()
        ]
        self.optimisers = [
            Optimisers(self.replicas.trained, self.combiners.trained, makers, len(self.seeds))
            for _ in range(plan.optimisers)
        ]
        self.has_validation = bool(self.pool.rows["validation"].shape[1])
        self.stopping = Stopping(
            settings.stopping, settings.patience, self.names, len(self.members)
        )
        self.best = [self._snapshot() for _ in self.criteria]
        self.step = 0
        self.history: list[tuple[int, str, tuple[str, ...], Tensor]] = []

    @property
    def criteria(self) -> list[tuple[str, ...]]:
        """The tasks of each rule by which weights are kept; none without validation rows."""
        return self.stopping.criteria if self.has_validation else []

    def run(self, advanced: Callable[[int], Any]) -> dict[str, Fit]:
        """Train until every seed has stopped; `advanced` is told of the steps as they are taken."""
        if self.has_validation and self.stopping.needs_first:
            self.stopping.begin(self.evaluator.losses())
        while self.step < self.settings.steps and bool(self.stopping.training.any()):
            steps = min(self.settings.interval, self.settings.steps - self.step)
            self._take(steps)
            self._evaluate()
            advanced(steps * len(self.members))
        advanced((self.settings.steps - self.step) * len(self.members))
        self.stopping.stopped_at[self.stopping.training] = self.step
        return self._results()

    # Steps ------------------------------------------------------------------------------------

    def _take(self, steps: int) -> None:
        """Take some optimiser steps and note the mean of each loss over them."""
        taken = [
            self._one_step(number, turn, batches)
            for number, turn, batches in self.feed.steps(range(self.step, self.step + steps))
        ]
        # On the CPU, since not every device has float64.
        losses, about = (torch.stack(own).cpu() for own in zip(*taken, strict=True))
        losses = losses.double()
        self._check_finite(losses, about)
        self.step += steps
        seen = torch.where(about, losses, torch.nan).nanmean(0)
        self.history.append((self.step, "train", self.objective.names, seen))

    def _one_step(
        self, number: int, turn: Turn, batches: Mapping[str, Batch]
    ) -> tuple[Float[Tensor, "replicas losses"], Bool[Tensor, "replicas losses"]]:
        """One optimiser step; the losses before it, and which of them it was about."""
        settings, optimiser = self.settings, self.optimisers[turn.optimiser]
        if settings.schedule is not None:
            optimiser.set_rates(settings.schedule(number / settings.steps))
        self.replicas.begin_step(number, settings.steps)
        if turn.begins or number == 0:
            self.losses.begin_pass()
        about = self.feed.tasks(turn)
        served = tuple(name for name in self.names if name in about)
        context = StepContext(number, settings.steps, served, optimiser.rate)

        optimiser.zero_grad()
        losses, penalty, labelled = self.losses(context, batches)

        def elsewhere(stream: str, parameters: Mapping[str, Tensor]) -> Tensor:
            there = self.replicas.state | dict(parameters)
            return self.losses(context, {stream: self.feed.one(stream)}, there)[0]

        parameters, progress = self.replicas.trained, context.progress
        self.combiners.backward(losses, labelled, penalty, parameters, progress, elsewhere)
        if settings.clip is not None:
            optimiser.clip(settings.clip)
        optimiser.step()
        if self.combiners.look_after:
            with torch.no_grad():
                self.combiners.after(self.losses(context, batches)[0])
        if settings.after_step is not None:
            after_step = settings.after_step
            with torch.no_grad():
                changed = self.replicas.map(lambda model: dict(after_step(model, context)))()
            self.replicas.assign(changed)
        return losses.detach(), labelled

    def _check_finite(self, losses: Tensor, about: Tensor) -> None:
        """Raise for the first loss that is not finite, of a replica that still trains."""
        training = self.stopping.training.view(1, -1, 1)
        wrong = torch.nonzero(~torch.isfinite(losses) & about & training)
        if len(wrong):
            step, member, loss = wrong[0].tolist()
            value, name = float(losses[step, member, loss]), self.objective.names[loss]
            where = self.step + step + 1
            raise self._diverged(f"The loss of task {name!r} became {value}", member, where)

    def _diverged(self, what: str, member: int, step: int) -> TrainingDivergedError:
        trial = self.trials[member // len(self.seeds)]
        of_trial = f"in the trial {trial!r} " if len(self.trials) > 1 else ""
        return TrainingDivergedError(
            f"{what} for seed {self.members[member]} {of_trial}at step {step}: lower the learning "
            "rate, or look for extreme values in the task's inputs and targets."
        )

    # Evaluations ------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Keep each replica's best weights; stop replicas that wait too long; call back."""
        losses = torch.empty(len(self.members), 0)
        if self.has_validation:
            losses = self.evaluator.losses()
            wrong = torch.nonzero(~torch.isfinite(losses) & self.stopping.training.unsqueeze(1))
            if len(wrong):
                member, task = wrong[0].tolist()
                value = float(losses[member, task])
                what = f"The validation loss of task {self.names[task]!r} became {value}"
                raise self._diverged(what, member, self.step)
            self.history.append((self.step, "validation", self.names, losses))
            self.stopping.see(losses, self.step, self._keep)
        shape = (len(self.trials), len(self.seeds), losses.shape[1])
        by_task = dict(zip(self.names, losses.reshape(shape).unbind(-1), strict=False))
        for callback in self.settings.callbacks:
            now = Evaluation(
                self.step, self.settings.steps, self.trials, self.seeds, by_task, self._model_now
            )
            callback(now)

    def _model_now(self, trial: str, seed: int) -> nn.Module:
        number = self.seeds.index(seed)
        member = self.trials.index(trial) * len(self.seeds) + number
        state = {name: values[member : member + 1] for name, values in self.replicas.state.items()}
        return Kept((self.replicas.modules[number],), state, None).model(0)

    def _snapshot(self) -> tuple[State, list[State]]:
        """Copies of the models' and of each trial's combiner's tensors as they are now."""
        of_combiners = [
            {name: values.detach().clone() for name, values in _tensors(own).items()}
            for own in self.combiners.of_trials
        ]
        return self.replicas.snapshot(), of_combiners

    @torch.no_grad()
    def _keep(self, criterion: int, better: Bool[Tensor, " replicas"]) -> None:
        """Keep the present weights of some replicas as the best of a criterion."""
        where = better.to(self.device)
        of_models, of_combiners = self.best[criterion]
        for name, values in self.replicas.state.items():
            of_models[name][where] = values[where]
        parts = where.split(len(self.seeds))
        for own, mine, kept in zip(self.combiners.of_trials, parts, of_combiners, strict=True):
            for name, values in _tensors(own).items():
                kept[name][mine] = values[mine]

    # Results ----------------------------------------------------------------------------------

    def _results(self) -> dict[str, Fit]:
        """Test the kept weights of every trial and tabulate everything."""
        kept = self.best or [self._snapshot()]
        criteria = self.criteria or [self.names]
        rows: list[dict[str, Any]] = []
        predictions: dict[str, np.ndarray] = {}
        for names, (state, _) in zip(criteria, kept, strict=True):
            for part in self.settings.evaluate_on:
                if not self.pool.rows[part].shape[1]:
                    continue
                predicted = self.evaluator.predictions(part, state)
                for task in self.tasks:
                    if task.name in names:
                        rows += self.evaluator.scores(task, part, predicted[task.name])
                        if part == "test":
                            as_double = predicted[task.name].double().cpu()
                            predictions[task.name] = as_double.numpy()
        history = [
            {"member": member, "step": step, "task": name, "part": part, "loss": float(loss)}
            for step, part, names, losses in self.history
            for member, of_member in enumerate(losses)
            for name, loss in zip(names, of_member, strict=True)
        ]
        each, trials = len(self.seeds), len(self.trials)
        shares = [slice(number * each, (number + 1) * each) for number in range(trials)]
        tables = zip(
            self.trials,
            table_of_each_trial(rows, self.seeds, trials),
            table_of_each_trial(history, self.seeds, trials),
            strict=True,
        )
        return {
            trial: Fit(
                self.tasks,
                self.seeds,
                results,
                histories,
                {
                    name: own[number * each : (number + 1) * each]
                    for name, own in predictions.items()
                },
                self.pool.test[shares[number]],
                self._cost(number),
                {
                    name: [group]
                    for names, group in zip(criteria, self._of_trial(number, kept), strict=True)
                    for name in names
                },
            )
            for number, (trial, results, histories) in enumerate(tables)
        }

    def _cost(self, trial: int) -> Cost:
        each = len(self.seeds)
        steps = self.stopping.stopped_at.numpy()[trial * each : (trial + 1) * each]
        of_combiner = sum(own[0].numel() for own in self.combiners.trained[trial].values())
        training = 3.0 * self.inference * self.feed.rows_of_step * steps
        return Cost(self.replicas.size + of_combiner, self.inference, training, steps)

    @torch.no_grad()
    def _of_trial(self, trial: int, kept: Sequence[tuple[State, list[State]]]) -> list[Kept]:
        """A trial's share of what each criterion kept, on the CPU."""
        found, each = [], len(self.seeds)
        for state, of_combiners in kept:
            combiner = None
            if self.combiners.given[trial]:
                combiner = deepcopy(self.combiners.of_trials[trial])
                for name, values in _tensors(combiner).items():
                    values.copy_(of_combiners[trial][name])
                combiner = combiner.cpu()
            own = {n: v[trial * each : (trial + 1) * each].cpu() for n, v in state.items()}
            # The modules, too: what was trained on a GPU is opened where there is none.
            modules = tuple(module.cpu() for module in self.replicas.modules)
            found.append(Kept(modules, own, combiner))
        return found


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
