"""The batches of a training, step by step: the sampler's rows, gathered for all trials."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter

import torch
from jaxtyping import Bool
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.training.context import Batch, each_tensor
from mtlbook.training.pool import Pool
from mtlbook.training.sampling import Plan, Turn


class Feed:
    """Gathers the batches of the streams whose turn it is.

    Arguments:
        pool: the data of all replicas.
        plan: the sampler's streams and turns, for one trial.
        trials: how many there are; all see the same batches.
        ahead: streams that combiners look ahead to, which no step learns from.
    """

    def __init__(self, pool: Pool, plan: Plan, trials: int, ahead: set[str]) -> None:
        for stream in ahead - plan.streams.keys():
            raise UsageError(
                f"A combiner looks ahead to the stream {stream!r}, which the sampler does not "
                f"draw: its streams are {list(plan.streams)}."
            )
        self._pool, self._plan, self._trials, self._ahead = pool, plan, trials, ahead
        rows = sum(stream.size for stream in plan.streams.values())
        replicas = len(pool.rows["train"])
        self.rows_of_step = rows / plan.optimisers
        self._at_once = max(1, pool.rows_at_once // (replicas * rows))

    def steps(self, numbers: range) -> Iterator[tuple[int, Turn, dict[str, Batch]]]:
        """The number of each step, whose turn it is, and its batches by stream."""
        for start in range(0, len(numbers), self._at_once):
            ahead = numbers[start : start + self._at_once]
            turns = [self._turn(number) for number in ahead]
            batches = {
                name: self._gathered(name, sum(name in turn.streams for turn in turns))
                for name in self._plan.streams
            }
            for number, turn in zip(ahead, turns, strict=True):
                yield number, turn, {name: next(batches[name]) for name in turn.streams}

    def one(self, stream: str) -> Batch:
        """The next batch of a stream that is looked ahead to."""
        return next(self._gathered(stream, 1))

    def tasks(self, turn: Turn) -> set[str]:
        """The names of the tasks that a step is about."""
        return {name for stream in turn.streams for name in self._plan.streams[stream].tasks}

    def _turn(self, number: int) -> Turn:
        turn = self._plan.turn(number)
        kept = tuple(name for name in turn.streams if name not in self._ahead)
        return replace(turn, streams=kept)

    def _gathered(self, name: str, steps: int) -> Iterator[Batch]:
        """The next batches of a stream, gathered together."""
        stream = self._plan.streams[name]
        positions, chosen = stream.take(steps)
        batch = self._pool.take(stream.part, positions.repeat(1, self._trials, 1))
        if chosen is not None:
            batch = _about(batch, chosen.repeat(1, self._trials, 1), stream.tasks)
        for number in range(steps):
            yield each_tensor(itemgetter(number), batch)


def _about(
    batch: Batch, chosen: Bool[Tensor, "steps replicas tasks"], tasks: Sequence[str]
) -> Batch:
    """A batch that is about the chosen task of each step and replica, and no other."""
    rows = next(iter(batch.targets.values()))
    like = rows.new_ones(rows.shape[:3], dtype=torch.get_default_dtype())
    marks = {}
    for place, task in enumerate(tasks):
        served = chosen[..., place, None].to(like.device)
        marks[task] = batch.labelled.get(task, like) * served
    return batch._replace(labelled=marks)
