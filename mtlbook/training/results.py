"""What a training leaves: results and histories as tidy tables, predictions, the models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor, nn

from mtlbook.combiner import Combiner
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.training.replicas import State, with_weights


@dataclass(frozen=True)
class Cost:
    """What one replica costs, in figures that do not depend on the machine.

    Attributes:
        parameters: trainable parameters.
        inference: floating-point operations to predict all tasks for one example (matrix products
            and convolutions, two a multiply-accumulate; PyTorch's own counter).
        training: floating-point operations of the whole training, for each seed, at the usual
            three times the forward pass a step.
        steps: optimiser steps that each seed took before it stopped.
    """

    parameters: int
    inference: int
    training: Float[np.ndarray, " seeds"]
    steps: Int[np.ndarray, " seeds"]


@dataclass(frozen=True, eq=False)
class Kept:
    """The weights that were kept, of the model and of the combiner, stacked over the seeds."""

    modules: tuple[nn.Module, ...]
    state: State
    combiner: Combiner | None

    def model(self, number: int) -> nn.Module:
        """The model of one seed, by its place among them."""
        return with_weights(self.modules[number], self.state, number)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a callback is told after each evaluation on the validation part.

    Attributes:
        step: steps taken so far.
        steps: how many there are at most.
        trials: their names; one without a name for `fit`.
        seeds: the seeds that train together.
        losses: the validation loss of each task, `(trials, seeds)`; empty without validation rows.
        model: from a trial's name and a seed to a copy of the model as it is now, on the CPU.
    """

    step: int
    steps: int
    trials: tuple[str, ...]
    seeds: tuple[int, ...]
    losses: Mapping[str, Float[Tensor, "trials seeds"]]
    model: Callable[[str, int], nn.Module]


@dataclass(frozen=True, eq=False)
class Fit:
    """What a training left: results and histories as tidy tables, predictions, the models.

    It can be pickled where the model can.

    Attributes:
        tasks: those that were trained, in the order in which they were asked for.
        seeds: one replica each.
        results: columns seed, task, part (train, validation or test), metric and value; each
            task's metric and its `loss`.
        history: columns seed, step, task, part (train or validation) and loss; the training loss
            is the mean since the last row. An objective's own losses stand where tasks do.
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
    kept: Mapping[str, Sequence[Kept]]

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
        """A copy of the trained model of one seed, for evaluation, on the CPU.

        On the CPU whatever device it was trained on: data lies there, too.

        With `stopping="each"` every task has stopped at its own best point: name the task.
        """
        kept, number = self._kept(seed, task)
        return kept.model(number)

    def combiner(self, seed: int, task: str | None = None) -> Combiner | None:
        """A copy of one seed's combiner, with what it learnt; None where none was given."""
        kept, number = self._kept(seed, task)
        return None if kept.combiner is None else kept.combiner.replica(number)

    def _kept(self, seed: int, task: str | None) -> tuple[Kept, int]:
        """The weights of the group of seeds that a seed trained in, and its place there."""
        if seed not in self.seeds:
            raise UsageError(f"Seed {seed} was not trained: the seeds are {list(self.seeds)}.")
        number = self.seeds.index(seed)
        for kept in self.kept[self.tasks[0].name if task is None else self._task(task).name]:
            if number < len(kept.modules):
                return kept, number
            number -= len(kept.modules)
        raise AssertionError("every seed belongs to a group")

    def _task(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise UsageError(f"There is no task {name!r}: choose among {[t.name for t in self.tasks]}.")


def join(fits: Sequence[Fit]) -> Fit:
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
        {n: [own for each in fits for own in each.kept[n]] for n in first.kept},
    )
