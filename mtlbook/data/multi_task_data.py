"""One shape for the three settings of multi-task data, and how it is split for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class MultiTaskData:
    """Inputs, a target per task, and which rows carry which task's label.

    The three settings that are easily confused have one constructor each:

    * `MultiTaskData.multi_label`: one data set, every row labelled for every task;
    * `MultiTaskData.several`: a data set per task, each row labelled for its own task only,
      with an optional one-hot task code appended to the input;
    * `MultiTaskData.partial`: any mixture.

    Attributes:
        tasks: what is predicted, in a fixed order.
        inputs: one row an example.
        targets: for each task a row an example; rows without a label hold zeros.
        labelled: for each task the rows that carry its label.

    Raises:
        UsageError: for targets of a wrong shape, NaN or infinite inputs, rows that do not match,
            or a task without any labelled row.
    """

    tasks: tuple[Task, ...]
    inputs: Shaped[Tensor, "rows ..."]
    targets: dict[str, Shaped[Tensor, "rows ..."]]
    labelled: dict[str, Bool[Tensor, " rows"]]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names:
            raise UsageError("Multi-task data without any task: name at least one.")
        if len(set(names)) != len(names):
            raise UsageError(f"Two tasks have the same name among {names}: rename one of them.")
        rows = len(self.inputs)
        if self.inputs.is_floating_point() and not torch.isfinite(self.inputs).all():
            bad = (~torch.isfinite(self.inputs)).flatten(1).any(1).sum()
            raise UsageError(
                f"{int(bad)} of {rows} input rows hold NaN or infinite values: impute or drop them."
            )
        for task in self.tasks:
            if task.name not in self.targets:
                raise UsageError(
                    f"Task {task.name!r} has no targets: there are targets for "
                    f"{sorted(self.targets)}. Name a label column for it."
                )
            target, labelled = self.targets[task.name], self.labelled[task.name]
            if len(target) != rows or labelled.shape != (rows,):
                raise UsageError(
                    f"Task {task.name!r} has {len(target)} targets and {len(labelled)} marks of "
                    f"labelled rows for {rows} input rows: the three must agree."
                )
            if not labelled.any():
                raise UsageError(
                    f"Task {task.name!r} has no labelled row: leave the task out or add labels."
                )
            # Rows without a label hold zeros: a masked NaN would still poison the gradient.
            mask = labelled.view(-1, *[1] * (target.ndim - 1))
            target = task.check(torch.where(mask, target, torch.zeros_like(target)))
            task.check_values(target[labelled])
            self.targets[task.name] = target

    @classmethod
    def multi_label(
        cls,
        tasks: Sequence[Task],
        inputs: Shaped[Tensor, "rows ..."],
        targets: Mapping[str, Shaped[Tensor, "..."]],
    ) -> "MultiTaskData":
        """One data set whose rows carry the labels of all tasks."""
        every = torch.ones(len(inputs), dtype=torch.bool)
        return cls(tuple(tasks), inputs, dict(targets), {task.name: every for task in tasks})

    @classmethod
    def partial(
        cls,
        tasks: Sequence[Task],
        inputs: Shaped[Tensor, "rows ..."],
        targets: Mapping[str, Shaped[Tensor, "..."]],
        labelled: Mapping[str, Bool[Tensor, "..."]],
    ) -> "MultiTaskData":
        """Any mixture: `labelled[task]` marks the rows whose target for the task counts."""
        missing = [task.name for task in tasks if task.name not in labelled]
        if missing:
            raise UsageError(f"No marks of labelled rows for {missing}: give one mask a task.")
        return cls(tuple(tasks), inputs, dict(targets), dict(labelled))

    @classmethod
    def several(
        cls,
        sets: Mapping[Task, tuple[Shaped[Tensor, "..."], Shaped[Tensor, "..."]]],
        codes: bool = False,
    ) -> "MultiTaskData":
        """A data set for each task, its `(inputs, targets)`, as one.

        Arguments:
            sets: for each task its own inputs and targets.
            codes: append to every input a one-hot code of the task that it belongs to.
        """
        if not sets:
            raise UsageError("Multi-task data without any data set: give at least one.")
        shapes = {task.name: tuple(inputs.shape[1:]) for task, (inputs, _) in sets.items()}
        if len(set(shapes.values())) > 1:
            raise UsageError(f"The data sets' inputs differ in shape, {shapes}: make them alike.")
        sizes = [len(inputs) for inputs, _ in sets.values()]
        owner = torch.repeat_interleave(torch.tensor(sizes))
        inputs = torch.cat([inputs for inputs, _ in sets.values()])
        targets, labelled = {}, {}
        for number, (task, (_, own)) in enumerate(sets.items()):
            own = task.check(own)
            if len(own) != sizes[number]:
                raise UsageError(
                    f"Task {task.name!r} has {sizes[number]} input rows and {len(own)} targets: "
                    "the two must agree."
                )
            labelled[task.name] = owner == number
            targets[task.name] = own.new_zeros(len(owner), *own.shape[1:])
            targets[task.name][labelled[task.name]] = own
        data = cls(tuple(sets), inputs, targets, labelled)
        return data.with_codes(owner) if codes else data

    def with_codes(self, owner: Int[Tensor, " rows"]) -> "MultiTaskData":
        """The same data with the one-hot code of each row's task appended to its input."""
        if self.inputs.ndim != 2:
            raise UsageError(
                f"Task codes are appended to flat inputs, not to inputs of {self.inputs.ndim - 1} "
                "axes an example: flatten them first."
            )
        codes = torch.nn.functional.one_hot(owner, len(self.tasks)).to(self.inputs.dtype)
        inputs = torch.cat([self.inputs, codes], dim=1)
        return MultiTaskData(self.tasks, inputs, self.targets, self.labelled)

    def groups(self) -> dict[tuple[str, ...], Int[Tensor, " members"]]:
        """The rows that are labelled for the same tasks, by the names of those tasks."""
        # A row's marks as the digits of a number, 32 tasks at a time: in the order of
        # `torch.unique(marks, dim=0)`, which takes many times longer.
        group = torch.zeros(len(self.inputs), dtype=torch.long)
        for start in range(0, len(self.tasks), 32):
            for task in self.tasks[start : start + 32]:
                group = 2 * group + self.labelled[task.name]
            _, group = torch.unique(group, return_inverse=True)
        members = [torch.nonzero(group == number)[:, 0] for number in range(int(group.max()) + 1)]
        return {
            tuple(task.name for task in self.tasks if self.labelled[task.name][rows[0]]): rows
            for rows in members
        }


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one seed's training, validation and test parts.

    Attributes:
        labelled: for each task the rows whose label may be used in training; outside the training
            part these are all the labels that there are.
    """

    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]
    test: Int[Tensor, " test"]
    labelled: dict[str, Bool[Tensor, " rows"]]


@dataclass(frozen=True)
class Holdout:
    """A random split into training, validation and test rows, drawn anew for each seed.

    Floats (0.0 to 1.0) are shares, whole numbers are counts, of the rows *of each group that is
    labelled for the same tasks*: with several data sets, of each data set. The test part is drawn
    first, the validation part next, so that a larger training part contains the smaller one and
    leaves the other two as they were.

    Attributes:
        train, validation, test: counts or fractions.
        labels: for a task, how many of the training labels are kept, the first ones that
            were drawn; training rows that are left without any label are dropped.

    Example:
        >>> Holdout(train=0.5, validation=0.25, test=0.25)
        Holdout(train=0.5, validation=0.25, test=0.25, labels={})
    """

    train: int | float = 0.6
    validation: int | float = 0.2
    test: int | float = 0.2
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in PARTS:
            asked = getattr(self, name)
            if asked < 0 or (isinstance(asked, float) and asked > 1):
                raise UsageError(
                    f"The {name} part is {asked}: give a whole number of rows, or a share from 0.0 "
                    "to 1.0."
                )
        for name, count in self.labels.items():
            if count < 0:
                raise UsageError(
                    f"The split keeps {count} labels of task {name!r}: keep 0 or more."
                )

    def draw(self, data: MultiTaskData, seed: int) -> Split:
        """The split of one seed.

        Raises:
            UsageError: where there are too few rows, where a task is left without training,
                validation or test labels, or where the training labels of a classification are
                all of one class.
        """
        unknown = set(self.labels) - {task.name for task in data.tasks}
        if unknown:
            raise UsageError(
                f"The split limits the labels of {sorted(unknown)}, which the data does not have: "
                f"its tasks are {[task.name for task in data.tasks]}."
            )
        train, validation, test = self._parts(data, seed)
        labelled = dict(data.labelled)
        for name, count in self.labels.items():
            candidates = train[labelled[name][train]]
            if count > len(candidates):
                raise UsageError(
                    f"The split keeps {count} training labels of task {name!r}, which has only "
                    f"{len(candidates)}: keep fewer."
                )
            labelled[name] = labelled[name].clone()
            labelled[name][candidates[count:]] = False
        train = train[torch.stack([marks[train] for marks in labelled.values()]).any(0)]
        split = Split(train, validation, test, labelled)
        _check(data, split, seed)
        return split

    def _parts(self, data: MultiTaskData, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """The rows of the training, validation and test parts, in the order they were drawn."""
        parts: dict[str, list[Tensor]] = {"test": [], "validation": [], "train": []}
        for names, members in data.groups().items():
            order = torch.randperm(len(members), generator=generator(seed, "split", *names))
            shuffled = members[order]
            taken = 0
            for name, rows in parts.items():
                size = self._size(name, len(members))
                if taken + size > len(members):
                    raise UsageError(
                        f"The split asks for {self._size('test', len(members))} test, "
                        f"{self._size('validation', len(members))} validation and "
                        f"{self._size('train', len(members))} training rows where there are "
                        f"{len(members)}: ask for fewer."
                    )
                rows.append(shuffled[taken : taken + size])
                taken += size
        train, validation, test = (torch.cat(parts[p]) for p in PARTS)
        return train, validation, test

    def _size(self, part: str, rows: int) -> int:
        asked = getattr(self, part)
        # The tiny slack keeps 0.6 + 0.2 + 0.2 from losing a row.
        return int(asked * rows + 1e-9) if isinstance(asked, float) else asked


@dataclass(frozen=True)
class Consecutive(Holdout):
    """A split by the order of the rows: training rows first, then validation, then test rows.

    It is the same for every seed, for data whose rows were put in this order because they must
    not be mixed. The parts are counts that use up all rows.

    Example:
        >>> Consecutive(train=60, validation=20, test=20).validation
        20
    """

    train: int = 1200
    validation: int = 300
    test: int = 300

    def _parts(self, data: MultiTaskData, seed: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG002
        sizes = [self.train, self.validation, self.test]
        if sum(sizes) != len(data.inputs):
            raise UsageError(
                f"The data has {len(data.inputs)} rows and the consecutive split {sum(sizes)}: "
                "make the data with the same split."
            )
        train, validation, test = torch.arange(sum(sizes)).split(sizes)
        return train, validation, test


def _check(data: MultiTaskData, split: Split, seed: int) -> None:
    for task in data.tasks:
        for part in PARTS:
            rows = getattr(split, part)
            if len(rows) and not split.labelled[task.name][rows].any():
                raise UsageError(
                    f"Task {task.name!r} has no labelled row in the {part} part of seed {seed}: "
                    "make the part larger or leave the task out."
                )
        if not len(split.train):
            raise UsageError("The training part is empty: ask for more training rows.")
        known = split.train[split.labelled[task.name][split.train]]
        values = data.targets[task.name][known]
        if task.kind in ("classification", "binary") and bool((values == values[:1]).all()):
            raise UsageError(
                f"All {len(known)} training labels of task {task.name!r} are of one class for seed "
                f"{seed}: ask for more training rows, or merge rare classes."
            )
