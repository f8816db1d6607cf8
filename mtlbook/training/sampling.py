"""Which rows a training step learns from, and for which tasks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mixed:
    """Rows of all tasks' together: each task's loss is the mean over its labelled rows.

    `batch_size` is the number of rows a step; None takes all rows at each step.
    """

    batch_size: int | None = 32


@dataclass(frozen=True)
class Balanced:
    """A minibatch of `batch_size` rows for each task, and one step on all of them."""

    batch_size: int | None = 32


@dataclass(frozen=True)
class RoundRobin:
    """A step on one task at a time, in turns, each task with an optimiser of its own."""

    batch_size: int | None = 32
