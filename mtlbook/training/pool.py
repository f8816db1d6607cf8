"""The data that several seeds train on at once, gathered minibatch by minibatch."""

from collections.abc import Callable, Iterable, Sequence
from copy import copy

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from mtlbook.data.multi_task_data import PARTS, Holdout, MultiTaskData, Split
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, Inputs

_GATHERED_BYTES = 8 * 2**20


class Pool:
    """The data of several seeds on a device, and each seed's rows of the parts.

    Attributes:
        tasks: those that are trained, in the order in which they were asked for.
        sets: each seed's data set.
        splits: each seed's split.
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
        one = isinstance(data, MultiTaskData)
        different = [data] if isinstance(data, MultiTaskData) else [data(seed) for seed in seeds]
        if len({own.rows for own in different}) > 1:
            raise UsageError("The seeds' data sets differ in size: make them equally large.")
        self.tasks = _chosen(different[0], tasks)
        self.sets = different * len(seeds) if one else different
        self.splits = [split.draw(own, seed) for own, seed in zip(self.sets, seeds, strict=True)]
        # Several data sets lie one after another: a seed's rows begin at its offset.
        self._offset = 0 if one else different[0].rows
        self.rows: dict[str, Tensor] = {}
        self.labelled: dict[str, dict[str, Tensor]] = {}
        for part in PARTS:
            self._add(part, [self._useful(own, part) for own in self.splits])
        self.test = torch.stack([own.test for own in self.splits]).numpy()

        def load(*values: Tensor) -> Tensor:
            whole = torch.cat(values)
            return whole.to(device, dtype if whole.is_floating_point() else whole.dtype)

        self.inputs = tree_map(load, *(own.inputs for own in different))
        self.targets = {
            task.name: load(*(own.targets[task.name] for own in different)) for task in self.tasks
        }
        self._device, self._dtype = device, dtype

    def _add(self, part: str, rows: Sequence[Int[Tensor, " rows"]]) -> None:
        if len({len(own) for own in rows}) > 1:
            raise UsageError(
                f"The seeds' {part} parts differ in size, and seeds train together only with "
                "equal ones: ask the split for counts that every seed can have."
            )
        self.rows[part] = torch.stack([own + n * self._offset for n, own in enumerate(rows)])
        self.labelled[part] = {
            task.name: torch.stack(
                [s.labelled[task.name][own] for s, own in zip(self.splits, rows, strict=True)]
            )
            for task in self.tasks
        }

    def _useful(self, split: Split, part: str) -> Int[Tensor, " rows"]:
        rows = getattr(split, part)
        if part != "train":
            return rows
        # Training rows that carry a label of none of the trained tasks teach these nothing.
        return rows[torch.stack([split.labelled[task.name][rows] for task in self.tasks]).any(0)]

    def training_data(self, number: int) -> MultiTaskData:
        """The training rows of a seed, by its place among them, with the labels that it may use."""
        split = self.splits[number]
        return self.sets[number].subset(split.train, split.labelled, self.tasks)

    def part_rows(self, part: str) -> Int[Tensor, "seeds rows"]:
        """The rows of a part for each seed; `unlabelled`: training rows that carry no label."""
        if part not in (*PARTS, "unlabelled"):
            raise UsageError(f"There is no part {part!r}: choose among {[*PARTS, 'unlabelled']}.")
        if part not in self.rows:
            self._add(part, [split.unlabelled for split in self.splits])
        return self.rows[part]

    def labelled_rows(self, task: str, part: str = "train") -> list[Int[Tensor, " rows"]]:
        """For each seed the positions within a part of the rows that carry a task's label."""
        self.part_rows(part)
        if task not in self.labelled[part]:
            raise UsageError(
                f"There is no task {task!r}: choose among {[own.name for own in self.tasks]}."
            )
        return [torch.nonzero(known)[:, 0] for known in self.labelled[part][task]]

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

    def take(self, part: str, positions: Int[Tensor, "*steps seeds batch"]) -> Batch:
        """The rows of a part at these positions within it; the results keep their axes in front."""
        seeds = torch.arange(positions.shape[-2]).unsqueeze(1)
        index = self.rows[part][seeds, positions].flatten().to(self._device)

        def gather(values: Tensor) -> Tensor:
            return values.index_select(0, index).view(*positions.shape, *values.shape[1:])

        marks = {
            name: known[seeds, positions].to(self._device, self._dtype)
            for name, known in self.labelled[part].items()
            if not known.all()
        }
        inputs: Inputs = tree_map(gather, self.inputs)
        return Batch(inputs, {name: gather(own) for name, own in self.targets.items()}, marks)

    def slices(self, part: str) -> Iterable[Int[Tensor, "seeds rows"]]:
        """The positions of a part, as many at a time as keep the inputs within bounds."""
        seeds, rows = self.rows[part].shape
        size = max(1, self.rows_at_once // seeds)
        for start in range(0, rows, size):
            yield torch.arange(start, min(start + size, rows)).expand(seeds, -1)

    @property
    def rows_at_once(self) -> int:
        """How many rows may be gathered at a time: enough to be quick, too few to fill memory."""
        leaves = tree_leaves(self.inputs)
        return max(1, _GATHERED_BYTES // sum(v[0].numel() * v.element_size() for v in leaves))


def _chosen(data: MultiTaskData, names: Sequence[str] | None) -> tuple[Task, ...]:
    known = {task.name: task for task in data.tasks}
    wanted = list(known) if names is None else list(names)
    if not wanted or set(wanted) - set(known) or len(set(wanted)) < len(wanted):
        raise UsageError(f"There are no tasks {wanted}: choose among {list(known)}, each once.")
    return tuple(known[name] for name in wanted)
