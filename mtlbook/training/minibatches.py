"""Minibatches: each seed's rows in an order of its own, shuffled anew for each pass."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.randomness import generator


class Minibatches:
    """Endless minibatches of row numbers, for all seeds at once.

    A pass visits each row at most once; the rows that do not fill a last batch wait for the next
    pass. The order depends on the seed and the stream's name alone.

    Arguments:
        rows: for each seed the rows to draw from, the same number for each.
        size: rows a batch; None takes all rows at each step, in their order.
        seeds: the seed of each entry of `rows`.
        stream: the name of this stream among those of one training run.
    """

    def __init__(
        self, rows: Sequence[Tensor], size: int | None, seeds: Sequence[int], stream: str
    ) -> None:
        counts = {len(own) for own in rows}
        if len(counts) > 1:
            raise UsageError(
                f"The seeds have different numbers of training rows ({sorted(counts)}), and train "
                "together only with equal ones: make the data sets of all seeds equally large."
            )
        self._rows = rows
        self.size = counts.pop() if size is None else min(size, counts.pop())
        self._shuffled = size is not None
        self._draws = [generator(seed, "minibatches", stream) for seed in seeds]
        self._ahead = torch.empty(0, len(rows), self.size, dtype=torch.long)

    def take(self, steps: int) -> Int[Tensor, "steps seeds batch"]:
        """The rows of the next steps' batches."""
        passes = [self._ahead]
        while sum(map(len, passes)) < steps:
            passes.append(self._pass())
        drawn = torch.cat(passes)
        self._ahead = drawn[steps:]
        return drawn[:steps]

    def _pass(self) -> Int[Tensor, "batches seeds batch"]:
        if not self._shuffled:
            return torch.stack(list(self._rows)).unsqueeze(0)
        batches = len(self._rows[0]) // self.size
        kept = batches * self.size
        orders = [
            rows[torch.randperm(len(rows), generator=draws)[:kept]]
            for rows, draws in zip(self._rows, self._draws, strict=True)
        ]
        return torch.stack(orders).view(len(orders), batches, self.size).transpose(0, 1)
