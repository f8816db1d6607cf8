"""Section 6.5's contestants: joint many-task models, their ablations, and shuffled passes.

Sentences are `tokens`, `(sentences, length, columns)`, and their `mask`; each task labels tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlbook.architectures.joint_many_task import JointManyTask, SuccessiveRegularisation
from mtlbook.book.experiments.networks import hard_sharing
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.layers.window import Window
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.fit import Data
from mtlbook.training.objective import Losses, Objective
from mtlbook.training.pool import Pool
from mtlbook.training.results import Fit, join
from mtlbook.training.sampling import Balanced, Passes, Plan, Turn
from mtlbook.training.selection import Selected, select

WORD, UNITS, LABEL = 8, 12, 4


def tag_head(units: int, task: Task) -> TagHead:
    """A head that starts at 0, as the softmax layers of Hashimoto et al. (2017) do."""
    head = TagHead(units, task.outputs)
    nn.init.zeros_(head.linear.weight)
    nn.init.zeros_(head.linear.bias)
    return head


def many_tasks(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    vocabulary: int,
    labels: bool = True,
    shortcuts: bool = True,
    vertical: bool = True,
) -> JointManyTask:
    """Levels of windows of three positions, one for each task of the data, lowest first.

    Without vertical connections the level k is a stack of k windows of its own, so that each task
    keeps its depth and sees as many words.
    """
    upper = UNITS * vertical + WORD * shortcuts + LABEL * labels

    def stages() -> list[nn.Module]:
        encoders = [
            Masked(Window(upper if place else WORD, UNITS, 1 if vertical else 1 + place))
            for place in range(len(data.tasks))
        ]
        return [Words(vocabulary, WORD), *encoders]

    heads = {task.name: tag_head(UNITS, task) for task in data.tasks}
    counts = {task.name: task.outputs for task in data.tasks[:-1]} if labels else None
    return JointManyTask(
        stages, heads, labels=counts, width=LABEL, shortcuts=shortcuts, vertical=vertical
    )


class SingleTaggers(nn.Module):
    """A network for each task, as deep as the task's level in the joint model.

    Arguments:
        tasks: lowest level first.
        vocabulary: numbers that a token can have.
    """

    def __init__(self, tasks: Sequence[Task], vocabulary: int) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(
            {
                task.name: nn.Sequential(
                    Words(vocabulary, WORD),
                    Masked(Window(WORD, UNITS, depth)),
                    tag_head(UNITS, task),
                )
                for depth, task in enumerate(tasks, start=1)
            }
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Each task's prediction, `(sentences, labels, length)`."""
        return {name: network(inputs) for name, network in self.networks.items()}


def single_taggers(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    vocabulary: int,
) -> SingleTaggers:
    """Single-task networks for the data's tasks."""
    return SingleTaggers(data.tasks, vocabulary)


class SplitTagger(nn.Module):
    """Hard sharing of the first layers, on sentences.

    Arguments:
        network: whose trunk takes tokens and their mask.
    """

    def __init__(self, network: HardSharing) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Each task's prediction, `(sentences, labels, length)`."""
        common = self.network.trunk(inputs)
        branches, heads = self.network.branches, self.network.heads
        return {name: head(branches[name](common)) for name, head in heads.items()}


def split_tagger(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    vocabulary: int,
    shared: int,
) -> SplitTagger:
    """One network whose first windows are shared: with all of them, hard sharing."""

    def stages() -> list[nn.Module]:
        first = nn.Sequential(Words(vocabulary, WORD), Masked(Window(WORD, UNITS)))
        return [first, *(Masked(Window(UNITS, UNITS)) for _ in data.tasks[1:])]

    made = hard_sharing(stages, data.tasks, UNITS, branch_at=shared, head=tag_head)
    return SplitTagger(made)


def alone(model: nn.Module, inputs: Any, task: str) -> Tensor:
    """One task's prediction, without what the others alone need."""
    if isinstance(model, JointManyTask):
        return model(inputs, task)[task]
    if isinstance(model, SplitTagger):
        network = model.network
        return network.heads[task](network.branches[task](network.trunk(inputs)))
    return model.get_submodule(f"networks.{task}")(inputs)


def own_losses(tasks: Sequence[Task]) -> Objective:
    """Each task's loss on its own stream: what `fit` computes, without the other tasks' layers."""
    by_name = {task.name: task for task in tasks}

    def compute(model: nn.Module, batches: Mapping[str, Batch], context: StepContext) -> Losses:  # noqa: ARG001
        return {
            name: by_name[name].loss(alone(model, batch.inputs, name), batch.targets[name]).mean()
            for name, batch in batches.items()
        }

    return Objective(tuple(by_name), compute)


@dataclass(frozen=True)
class ShuffledPasses(Passes):
    """A whole pass over one task's rows after another's, in a new random order each round.

    Seeds that train together see one sequence of orders, drawn for the first of them.

    Attributes:
        rounds: how many orders are drawn; behind them the first comes again.
    """

    rounds: int = 100

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """A stream a task; each round is as long as one of `Passes`."""
        plan = super().plan(pool, seeds)
        names = list(plan.streams)
        lengths = [len(pool.labelled_rows(n)[0]) // plan.streams[n].size for n in names]
        source = generator(seeds[0], "order of passes")
        turns = []
        for _ in range(self.rounds):
            for place in torch.randperm(len(names), generator=source).tolist():
                own = (names[place],)
                turns += [Turn(own, begins=step == 0) for step in range(lengths[place])]
        return Plan(plan.streams, lambda step: turns[step % len(turns)])


@dataclass(frozen=True, kw_only=True)
class Levels:
    """What the contestants of an experiment have in common.

    Attributes:
        page: whose seeds and device are used.
        data: one data set, or a function from a seed to its data; tasks from the lowest level on.
        tasks: those of the data.
        split: of the rows; `labels` says how many a task has.
        vocabulary: numbers that a token can have.
        rounds: of passes over all tasks.
        rates: of plain gradient descent, a trial each.
        batch: sentences a step.
    """

    page: Page
    data: Data
    tasks: Sequence[Task]
    split: Holdout
    vocabulary: int
    rounds: int
    rates: Sequence[float] = (1.0, 2.0)
    batch: int = 10

    @property
    def of_round(self) -> int:
        """Steps of one round of passes."""
        train = int(self.split.train)
        counts = [self.split.labels.get(task.name, train) for task in self.tasks]
        return sum(count // self.batch for count in counts)

    def joint(self, rates: Sequence[float] | None = None, **changed: Any) -> dict[str, Fit]:
        """Joint many-task models in passes, lowest task first, with the paper's penalties.

        Arguments:
            rates: trials, by default those in common.
            **changed: settings, and dials of `many_tasks`.
        """
        common = {"sampler": Passes(self.batch), "regulariser": SuccessiveRegularisation()}
        return self._trained(many_tasks, rates, **common | changed)

    def shuffled(self, rate: float, together: int = 8) -> Fit:
        """The same, the order of passes drawn anew in each round, for a few seeds at a time."""
        sampler = ShuffledPasses(self.batch)
        seeds = list(self.page.seeds)
        groups = [seeds[start : start + together] for start in range(0, len(seeds), together)]
        fits = [self.joint([rate], sampler=sampler, seeds=group) for group in groups]
        return join([next(iter(own.values())) for own in fits])

    def anchored(self, rate: float, delta: float) -> dict[str, Fit]:
        """The joint model with successive regularisation, `anchored`, and without, `plain`.

        The weights are the last ones, at the end of the top task's pass, and nothing decays.
        """
        penalty = SuccessiveRegularisation(delta, delta, 0.0, 0.0)
        found = {}
        for name, own in {"anchored": penalty, "plain": None}.items():
            fits = self.joint([rate], regulariser=own, stopping=None, validate_every=16)
            found[name] = next(iter(fits.values()))
        return found

    def single_task(self) -> Selected:
        """A network a task; each takes every step, chooses its rate and stops by its own loss."""
        settings = {"sampler": Balanced(self.batch), "stopping": "each"}
        return select(self._trained(single_taggers, **settings), each_task=True)

    def best_split(self, rate: float, depths: Sequence[int]) -> Selected:
        """One network in passes that shares its first layers: the best of some depths."""
        found = {}
        for shared in depths:
            own = self._trained(split_tagger, [rate], shared=shared, sampler=Passes(self.batch))
            found[f"split after {shared}"] = next(iter(own.values()))
        return select(found)

    def _trained(
        self,
        build: Callable[..., nn.Module],
        rates: Sequence[float] | None = None,
        **changed: Any,
    ) -> dict[str, Fit]:
        chosen = self.rates if rates is None else rates
        trials = {f"rate {rate:g}": {"optimiser": partial(descent, rate=rate)} for rate in chosen}
        common: dict[str, Any] = {
            "vocabulary": self.vocabulary,
            "split": self.split,
            "steps": self.rounds * self.of_round,
            "validate_every": self.of_round,
            "objective": own_losses(self.tasks),
            "schedule": partial(falling, rounds=self.rounds),
            "clip": 3.0,
            "stopping": "relative",
            "evaluate_on": ["validation", "test"],
        }
        return search(self.page, build, self.data, trials, **common | changed)


def descent(named: list[tuple[str, Tensor]], rate: float) -> torch.optim.SGD:
    """Plain gradient descent: nothing of one task's pass is carried into the next."""
    return torch.optim.SGD([values for _, values in named], lr=rate)


def falling(progress: float, rounds: int) -> float:
    """The learning rate in round k over the first one: 1 / (1 + 0.3 (k − 1)).

    Example:
        >>> [round(falling(share, rounds=4), 3) for share in (0.0, 0.2, 0.25, 0.75)]
        [1.0, 1.0, 0.769, 0.526]
    """
    return 1 / (1 + 0.3 * int(progress * rounds + 1e-9))
