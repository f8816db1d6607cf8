"""Samplers: which rows each step learns from, and of which tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.training.minibatches import Minibatches
from mtlbook.training.pool import Pool

Rows = Int[Tensor, "steps seeds batch"]


@dataclass(frozen=True)
class Turn:
    """Whose turn a step is.

    Attributes:
        streams: those that give a batch.
        optimiser: the number of the optimiser that takes the step.
        begins: whether a task's pass over its data begins here.
    """

    streams: tuple[str, ...]
    optimiser: int = 0
    begins: bool = False


class Stream:
    """Endless minibatches of one part of the data for all seeds.

    Attributes:
        part: of the pool that the rows are of.
        tasks: those that learn from this stream.
        size: rows a batch.
    """

    def __init__(
        self,
        batches: "Minibatches | ByTask",
        *,
        tasks: Sequence[str],
        part: str = "train",
    ) -> None:
        self.part, self.tasks, self.size = part, tuple(tasks), batches.size
        self._batches = batches

    def take(self, steps: int) -> tuple[Rows, Bool[Tensor, "steps seeds tasks"] | None]:
        """Positions within the part, and which tasks each step of each seed is about (None: all).

        The tasks are in the order of `tasks`.
        """
        if isinstance(self._batches, ByTask):
            return self._batches.take(steps)
        return self._batches.take(steps), None


@dataclass(frozen=True)
class Plan:
    """The streams of a training by name, and whose turn each step is."""

    streams: dict[str, Stream]
    turn: Callable[[int], Turn]
    optimisers: int = 1


@dataclass(frozen=True)
class Sampler(ABC):
    """A rule by which minibatches are drawn; the order depends on each seed alone.

    Attributes:
        batch_size: rows a minibatch; None for all rows of the stream at each step.
    """

    batch_size: int | None = 32

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, or None, not {self.batch_size}.")

    @abstractmethod
    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """The streams for these seeds, whose rows are the pool's first ones, and their turns."""

    def _of_each_task(self, pool: Pool, seeds: Sequence[int]) -> dict[str, Stream]:
        """A stream of its labelled training rows for each task."""
        return {
            task.name: Stream(
                Minibatches(pool.labelled_rows(task.name), self.batch_size, seeds, task.name),
                tasks=[task.name],
            )
            for task in pool.tasks
        }


@dataclass(frozen=True)
class Mixed(Sampler):
    """Rows of all tasks' together: each task's loss is over its labelled rows in the batch."""

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """One stream of all training rows."""
        rows = pool.rows["train"].shape[1]
        positions = list(torch.arange(rows).expand(len(seeds), -1))
        batches = Minibatches(positions, self.batch_size, seeds, "mixed")
        names = [task.name for task in pool.tasks]
        return Plan({"train": Stream(batches, tasks=names)}, lambda _: Turn(("train",)))


@dataclass(frozen=True)
class Balanced(Sampler):
    """A minibatch of each task's own rows, and one joint step."""

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """A stream a task, all at each step."""
        streams = self._of_each_task(pool, seeds)
        return Plan(streams, lambda _: Turn(tuple(streams)))


@dataclass(frozen=True)
class RoundRobin(Sampler):
    """A step on one task after another, each task with an optimiser of its own."""

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """A stream a task, one at each step."""
        streams = self._of_each_task(pool, seeds)
        names = list(streams)

        def turn(step: int) -> Turn:
            number = step % len(names)
            return Turn((names[number],), number)

        return Plan(streams, turn, len(names))


@dataclass(frozen=True)
class RandomTask(Sampler):
    """A step on one task, drawn at random for each step and seed.

    The other tasks' losses have weight 0 in that step. A head whose gradient is 0 still moves under
    an optimiser with momentum, as in a loop that sets gradients to zero and not to None.
    """

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """One stream whose batches are each of one task."""
        names = [task.name for task in pool.tasks]
        batches = ByTask(pool, self.batch_size, seeds, self._probabilities(pool, seeds))
        return Plan({"train": Stream(batches, tasks=names)}, lambda _: Turn(("train",)))

    def _probabilities(self, pool: Pool, seeds: Sequence[int]) -> Tensor:
        return torch.full((len(seeds), len(pool.tasks)), 1 / len(pool.tasks), dtype=torch.float64)


@dataclass(frozen=True)
class Proportional(RandomTask):
    """A step on one task, drawn in proportion to its labelled rows, for each step and seed."""

    def _probabilities(self, pool: Pool, seeds: Sequence[int]) -> Tensor:
        counts = [
            [len(rows) for rows in pool.labelled_rows(task.name)[: len(seeds)]]
            for task in pool.tasks
        ]
        of_seeds = torch.tensor(counts, dtype=torch.float64).T
        return of_seeds / of_seeds.sum(1, keepdim=True)


@dataclass(frozen=True)
class Passes(Sampler):
    """A whole pass over one task's rows after another's, in this order, again and again.

    Attributes:
        order: the tasks' names; by default the order of the data.
    """

    order: tuple[str, ...] | None = None

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """A stream a task; a pass has as many steps as full batches."""
        streams = self._of_each_task(pool, seeds)
        order = tuple(streams) if self.order is None else self.order
        if sorted(order) != sorted(streams):
            raise UsageError(f"order must name each of the tasks {list(streams)}, not {order}.")
        whose, begins = [], []
        for name in order:
            steps = len(pool.labelled_rows(name)[0]) // streams[name].size
            whose += [name] * steps
            begins += [True, *[False] * (steps - 1)]

        def turn(step: int) -> Turn:
            place = step % len(whose)
            return Turn((whose[place],), begins=begins[place])

        return Plan(streams, turn)


@dataclass(frozen=True)
class RowsOf:
    """The rows of a named stream.

    Attributes:
        part: `train`, `validation`, or `unlabelled`: training rows that carry no label.
        task: only rows that carry this task's label; None for all rows of the part.
    """

    part: str = "train"
    task: str | None = None


@dataclass(frozen=True)
class Streams(Sampler):
    """A batch of each of several named streams at each step, for an objective of one's own.

    Attributes:
        batch_size: rows a minibatch of each stream without a size of its own.
        rows: by name.
        sizes: rows a minibatch of some streams.
    """

    rows: Mapping[str, RowsOf] = field(default_factory=lambda: {"train": RowsOf()})
    sizes: Mapping[str, int] = field(default_factory=dict)

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """The named streams, all at each step."""
        streams = {}
        for name, rows in self.rows.items():
            if rows.task is None:
                count = pool.part_rows(rows.part).shape[1]
                positions = list(torch.arange(count).expand(len(seeds), -1))
            else:
                positions = pool.labelled_rows(rows.task, rows.part)
            if not len(positions[0]):
                raise UsageError(
                    f"The stream {name!r} has no rows: there are none in the part {rows.part!r}"
                    + (f" with a label of task {rows.task!r}." if rows.task else ".")
                )
            size = self.sizes.get(name, self.batch_size)
            batches = Minibatches(positions, size, seeds, name)
            tasks = [task.name for task in pool.tasks] if rows.task is None else [rows.task]
            streams[name] = Stream(batches, tasks=tasks, part=rows.part)
        return Plan(streams, lambda _: Turn(tuple(streams)))


class ByTask:
    """Batches of one task each, the task drawn for each step and seed.

    Arguments:
        pool: whose training rows are drawn.
        size: rows a batch; None for as many as the task with the fewest has.
        seeds: the seeds, in the pool's order.
        probabilities: of each task, `(seeds, tasks)`.
    """

    def __init__(
        self, pool: Pool, size: int | None, seeds: Sequence[int], probabilities: Tensor
    ) -> None:
        rows = {task.name: pool.labelled_rows(task.name) for task in pool.tasks}
        fewest = min(len(own) for of_task in rows.values() for own in of_task[: len(seeds)])
        self.size = fewest if size is None else min(size, fewest)
        # One for each seed and task, since seeds draw different tasks.
        self._streams = [
            [
                Minibatches([of_task[place]], self.size, [seed], name)
                for name, of_task in rows.items()
            ]
            for place, seed in enumerate(seeds)
        ]
        self._draws = [generator(seed, "order of tasks") for seed in seeds]
        self._ends = probabilities.cumsum(1)

    def take(self, steps: int) -> tuple[Rows, Bool[Tensor, "steps seeds tasks"]]:
        """Positions within the training part, and the task that each batch is about."""
        tasks = self._ends.shape[1]
        positions, chosen = [], []
        for streams, draws, ends in zip(self._streams, self._draws, self._ends, strict=True):
            drawn = torch.rand(steps, generator=draws, dtype=torch.float64)
            tasks_of = torch.searchsorted(ends, drawn, right=True).clamp(max=tasks - 1)
            positions.append(torch.cat([streams[int(task)].take(1)[:, 0] for task in tasks_of]))
            chosen.append(torch.nn.functional.one_hot(tasks_of, tasks).bool())
        return torch.stack(positions, dim=1), torch.stack(chosen, dim=1)
