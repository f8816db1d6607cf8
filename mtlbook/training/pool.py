"""The data that several seeds train on at once, gathered minibatch by minibatch."""

from collections.abc import Callable, Iterable, Sequence
from copy import copy

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mtlbook.data.multi_task_data import PARTS, Holdout, MultiTaskData, Split
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

_GATHERED_BYTES = 8 * 2**20


class Pool:
    """The data of several seeds on a device, and each seed's rows of the three parts.

    Attributes:
        tasks: those that are trained.
        rows: for each part the rows of each seed, `(seeds, rows)`.
        labelled: for each part and task which of these rows carry a label.
        test: the test rows as numbers within each seed's own data set.
        inputs, targets: the values, all seeds' data sets one after another.
    """

    def __init__(
        self,
        data: MultiTaskData | Callable[[int], MultiTaskData],
        split: Holdout,
        seeds: Sequence[int],
        tasks: Sequence[str] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        if isinstance(data, MultiTaskData):
            sets = [data]
        else:
            sets = [data(seed) for seed in seeds]
            if len({len(own.inputs) for own in sets}) > 1:
                raise UsageError("The seeds' data sets differ in size: make them equally large.")
        self.tasks = _chosen(sets[0], tasks)
        own = sets * len(seeds) if len(sets) == 1 else sets
        splits = [split.draw(each, seed) for each, seed in zip(own, seeds, strict=True)]
        # Several data sets lie one after another: a seed's rows begin at its offset.
        step = len(sets[0].inputs) if len(sets) > 1 else 0
        self.rows: dict[str, Tensor] = {}
        self.labelled: dict[str, dict[str, Tensor]] = {}
        for part in PARTS:
            rows = [self._useful(split, part) for split in splits]
            if len({len(each) for each in rows}) > 1:
                raise UsageError(
                    f"The seeds' {part} parts differ in size, and seeds train together only with "
                    "equal ones: ask the split for counts that every seed can have."
                )
            self.rows[part] = torch.stack([each + n * step for n, each in enumerate(rows)])
            self.labelled[part] = {
                task.name: torch.stack(
                    [s.labelled[task.name][each] for s, each in zip(splits, rows, strict=True)]
                )
                for task in self.tasks
            }
        self.test = torch.stack([split.test for split in splits]).numpy()

        def load(values: Iterable[Tensor]) -> Tensor:
            whole = torch.cat(list(values))
            return whole.to(device, dtype if whole.is_floating_point() else whole.dtype)

        self.inputs = load(each.inputs for each in sets)
        self.targets = {
            task.name: load(each.targets[task.name] for each in sets) for task in self.tasks
        }

    def _useful(self, split: Split, part: str) -> Int[Tensor, " rows"]:
        rows = getattr(split, part)
        if part != "train":
            return rows
        # Training rows that carry a label of none of the trained tasks teach nothing.
        return rows[torch.stack([split.labelled[task.name][rows] for task in self.tasks]).any(0)]

    def repeated(self, times: int) -> "Pool":
        """The same data for as many replicas of each seed: all seeds, then all seeds again."""
        if times == 1:
            return self
        again = copy(self)
        again.rows = {part: rows.repeat(times, 1) for part, rows in self.rows.items()}
        again.labelled = {
            part: {name: known.repeat(times, 1) for name, known in own.items()}
            for part, own in self.labelled.items()
        }
        again.test = np.tile(self.test, (times, 1))
        return again

    def take(
        self, part: str, positions: Int[Tensor, "*steps seeds batch"]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The inputs, the targets, and marks of labels (of the tasks that lack some) of a part.

        `positions` count within the part; the results keep its axes in front.
        """
        seeds = torch.arange(positions.shape[-2]).unsqueeze(1)
        index = self.rows[part][seeds, positions].flatten().to(self.inputs.device)

        def gather(values: Tensor) -> Tensor:
            return values.index_select(0, index).view(*positions.shape, *values.shape[1:])

        marks = {
            name: known[seeds, positions].to(self.inputs.device, self.inputs.dtype)
            for name, known in self.labelled[part].items()
            if not known.all()
        }
        return gather(self.inputs), {n: gather(v) for n, v in self.targets.items()}, marks

    def slices(self, part: str) -> Iterable[Int[Tensor, "seeds rows"]]:
        """The positions of a part, as many at a time as keep the inputs within bounds."""
        seeds, rows = self.rows[part].shape
        size = max(1, self.rows_at_once // seeds)
        for start in range(0, rows, size):
            yield torch.arange(start, min(start + size, rows)).expand(seeds, -1)

    @property
    def rows_at_once(self) -> int:
        """How many rows may be gathered at a time: enough to be quick, too few to fill memory."""
        return max(1, _GATHERED_BYTES // (self.inputs[0].numel() * self.inputs.element_size()))


def _chosen(data: MultiTaskData, names: Sequence[str] | None) -> tuple[Task, ...]:
    known = [task.name for task in data.tasks]
    wanted = known if names is None else list(names)
    if not wanted or set(wanted) - set(known):
        raise UsageError(f"There are no tasks {wanted}: choose among {known}.")
    return tuple(task for task in data.tasks if task.name in wanted)
