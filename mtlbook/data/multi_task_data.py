"""One shape for the three settings of multi-task data, and how it is split for each seed."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

PARTS = ("train", "validation", "test")

# One tensor, or several by name: tokens and their mask. Who has made the data knows which one, and
# need not prove it to a type checker.
if TYPE_CHECKING:
    Inputs = Any
else:
    Inputs = Shaped[Tensor, "..."] | Mapping[str, Shaped[Tensor, "..."]]


@dataclass(frozen=True, eq=False)
class MultiTaskData:
    """Inputs, a target per task, and which rows carry which task's label.

    The three settings that are easily confused have one constructor each:

    * `MultiTaskData.multi_label`: one data set, every row labelled for every task;
    * `MultiTaskData.several`: a data set per task, each row labelled for its own task only,
      with an optional one-hot task code appended to the input;
    * `MultiTaskData.partial`: any mixture; a row may be without any label.

    Attributes:
        tasks: what is predicted, in a fixed order.
        inputs: one row an example; a tensor, or a dictionary of tensors with one row an example
            each, as padded tokens `(rows, length)` and their mask `(rows, length)`.
        targets: for each task a row an example; rows without a label hold zeros.
        labelled: for each task the rows that carry its label.

    Raises:
        UsageError: for targets of a wrong shape, NaN or infinite inputs, rows that do not match,
            or a task without any labelled row.

    Example:
        >>> tokens = torch.tensor([[4, 7, 2], [5, 1, 0]])
        >>> inputs = {"tokens": tokens, "mask": tokens > 0}
        >>> labels = {"part": torch.tensor([[0, 1, 1], [1, 0, -100]])}
        >>> data = MultiTaskData.multi_label([Task.tagging("part", 2)], inputs, labels)
        >>> data.rows, data.subset(torch.tensor([1])).inputs["mask"]
        (2, tensor([[ True,  True, False]]))
    """

    tasks: tuple[Task, ...]
    inputs: Inputs
    targets: dict[str, Shaped[Tensor, "rows ..."]]
    labelled: dict[str, Bool[Tensor, " rows"]]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names:
            raise UsageError("Multi-task data without any task: name at least one.")
        if len(set(names)) != len(names):
            raise UsageError(f"Two tasks have the same name among {names}: rename one of them.")
        rows = _checked_inputs(self.inputs)
        targets, marks = {}, {}
        for task in self.tasks:
            if task.name not in self.targets:
                raise UsageError(
                    f"Task {task.name!r} has no targets: there are targets for "
                    f"{sorted(self.targets)}. Name a label column for it."
                )
            target, labelled = task.check(self.targets[task.name]), self.labelled[task.name]
            _check_marks(labelled, task)
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
            target = _blanked(target, labelled)
            task.check_values(target[labelled])
            targets[task.name], marks[task.name] = target, labelled
        # The caller's dictionaries stay as they are.
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "labelled", marks)
        if not isinstance(self.inputs, Tensor):
            object.__setattr__(self, "inputs", dict(self.inputs))

    @property
    def rows(self) -> int:
        """The number of examples."""
        return _rows(self.inputs)

    def subset(
        self,
        rows: Int[Tensor, " chosen"],
        labelled: Mapping[str, Bool[Tensor, " rows"]] | None = None,
        tasks: Sequence[Task] | None = None,
    ) -> "MultiTaskData":
        """The same data for some of its rows, in their order; nothing is checked again.

        A task that has no label among them stays, as a split of few labels may need it.

        Arguments:
            rows: the numbers of the chosen rows.
            labelled: for each task the rows (of all) that still carry its label, as
                `Split.labelled` has them; targets of the others become zeros.
            tasks: those of the data's tasks that are kept, by default all.
        """
        known = self.labelled if labelled is None else labelled
        kept = self.tasks if tasks is None else tuple(tasks)
        marks = {task.name: known[task.name][rows] for task in kept}
        targets = {name: self.targets[name][rows] for name in marks}
        if labelled is not None:
            targets = {name: _blanked(values, marks[name]) for name, values in targets.items()}
        part = copy(self)
        object.__setattr__(part, "tasks", kept)
        chosen = _each(self.inputs, lambda values: values[rows])
        for name, value in (("inputs", chosen), ("targets", targets), ("labelled", marks)):
            object.__setattr__(part, name, value)
        return part

    @classmethod
    def multi_label(
        cls,
        tasks: Sequence[Task],
        inputs: Inputs,
        targets: Mapping[str, Shaped[Tensor, "..."]],
    ) -> "MultiTaskData":
        """One data set whose rows carry the labels of all tasks."""
        every = torch.ones(_rows(inputs), dtype=torch.bool)
        return cls(tuple(tasks), inputs, dict(targets), {task.name: every for task in tasks})

    @classmethod
    def partial(
        cls,
        tasks: Sequence[Task],
        inputs: Inputs,
        targets: Mapping[str, Shaped[Tensor, "..."]],
        labelled: Mapping[str, Bool[Tensor, "..."]],
    ) -> "MultiTaskData":
        """Any mixture: `labelled[task]` marks the rows whose target for the task counts.

        Rows may be without any label: a `Split` has those of the training part by themselves.
        """
        missing = [task.name for task in tasks if task.name not in labelled]
        if missing:
            raise UsageError(f"No marks of labelled rows for {missing}: give one mask a task.")
        return cls(tuple(tasks), inputs, dict(targets), dict(labelled))

    @classmethod
    def several(
        cls,
        sets: Mapping[Task, tuple[Inputs, Shaped[Tensor, "..."]]],
        codes: bool = False,
    ) -> "MultiTaskData":
        """A data set for each task, its `(inputs, targets)`, as one.

        Arguments:
            sets: for each task its own inputs and targets.
            codes: append to every input a one-hot code of the task that it belongs to.
        """
        if not sets:
            raise UsageError("Multi-task data without any data set: give at least one.")
        shapes = {task.name: _shapes(inputs) for task, (inputs, _) in sets.items()}
        if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
            raise UsageError(f"The data sets' inputs differ in shape, {shapes}: make them alike.")
        sizes = [_rows(inputs) for inputs, _ in sets.values()]
        owner = torch.repeat_interleave(torch.tensor(sizes))
        inputs = _joined([inputs for inputs, _ in sets.values()])
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
        if not isinstance(self.inputs, Tensor):
            raise UsageError(
                f"Task codes are appended to one flat tensor, not to {sorted(self.inputs)}: add "
                "them to the dictionary under a name of their own."
            )
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
        group = torch.zeros(self.rows, dtype=torch.long)
        for start in range(0, len(self.tasks), 32):
            for task in self.tasks[start : start + 32]:
                group = 2 * group + self.labelled[task.name]
            _, group = torch.unique(group, return_inverse=True)
        members = [torch.nonzero(group == number)[:, 0] for number in range(int(group.max()) + 1)]
        return {
            tuple(task.name for task in self.tasks if self.labelled[task.name][rows[0]]): rows
            for rows in members
        }


def _each(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    if isinstance(inputs, Tensor):
        return change(inputs)
    return {name: change(values) for name, values in inputs.items()}


def _rows(inputs: Inputs) -> int:
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()), ()))


def _shapes(inputs: Inputs) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """The shape of an example."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    return {name: tuple(values.shape[1:]) for name, values in inputs.items()}


def _joined(sets: Sequence[Inputs]) -> Inputs:
    """Data sets one behind the other."""
    first = sets[0]
    if isinstance(first, Tensor):
        return torch.cat([each for each in sets if isinstance(each, Tensor)])
    named = [each for each in sets if not isinstance(each, Tensor)]
    return {name: torch.cat([each[name] for each in named]) for name in first}


def _checked_inputs(inputs: Inputs) -> int:
    """The number of rows, or a `UsageError` about what is wrong with the inputs."""
    if isinstance(inputs, Tensor):
        named, rows = {"": inputs}, len(inputs)
    elif isinstance(inputs, Mapping) and inputs:
        named, rows = inputs, _rows(inputs)
    else:
        raise UsageError(
            f"The inputs are {inputs!r:.80}: give a tensor, or a dictionary of at least one tensor."
        )
    for name, values in named.items():
        about = f" of {name!r}" if name else ""
        if not isinstance(values, Tensor):
            raise UsageError(
                f"The inputs{about} are a {type(values).__name__}: give a tensor of numbers."
            )
        if len(values) != rows:
            raise UsageError(
                f"The inputs{about} have {len(values)} rows where those of {next(iter(named))!r} "
                f"have {rows}: the rows of all must agree."
            )
        if values.is_floating_point() and not torch.isfinite(values).all():
            bad = (~torch.isfinite(values)).flatten(1).any(1).sum()
            raise UsageError(
                f"{int(bad)} of {rows} input rows{about} hold NaN or infinite values: impute or "
                "drop them."
            )
    return rows


def _check_marks(labelled: Tensor, task: Task) -> None:
    if not isinstance(labelled, Tensor) or labelled.dtype != torch.bool:
        kind = labelled.dtype if isinstance(labelled, Tensor) else type(labelled).__name__
        raise UsageError(
            f"The marks of the rows that are labelled for task {task.name!r} are {kind}: give a "
            "tensor of torch.bool."
        )


def _blanked(target: Tensor, labelled: Tensor) -> Tensor:
    """The target with zeros in the rows that have no label."""
    mask = labelled.view(-1, *[1] * (target.ndim - 1))
    return torch.where(mask, target, torch.zeros_like(target))


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one seed's training, validation and test parts.

    Attributes:
        train: those that carry a label of some task.
        unlabelled: the other rows of the training part: those that never had a label, and those
            that the split leaves without.
        labelled: for each task the rows whose label may be used in training; outside the training
            part these are all the labels that there are.
    """

    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]
    test: Int[Tensor, " test"]
    labelled: dict[str, Bool[Tensor, " rows"]]
    unlabelled: Int[Tensor, " unlabelled"]


@dataclass(frozen=True)
class Holdout:
    """A random split into training, validation and test rows, drawn anew for each seed.

    Floats (0.0 to 1.0) are shares, whole numbers are counts, of the rows *of each group that is
    labelled for the same tasks*: with several data sets, of each data set; with rows that carry no
    label at all, also of these. The test part is drawn
    first, the validation part next, so that a larger training part contains the smaller one and
    leaves the other two as they were.

    Attributes:
        train, validation, test: counts or fractions.
        labels: for a task, how many of the training labels are kept, the first ones that
            were drawn; training rows that are left without any label become `unlabelled`.

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
        useful = torch.stack([marks[train] for marks in labelled.values()]).any(0)
        split = Split(train[useful], validation, test, labelled, train[~useful])
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
        if sum(sizes) != data.rows:
            raise UsageError(
                f"The data has {data.rows} rows and the consecutive split {sum(sizes)}: "
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
        if task.targets.must_vary and bool((values == values[:1]).all()):
            raise UsageError(
                f"All {len(known)} training labels of task {task.name!r} are of one class for seed "
                f"{seed}: ask for more training rows, or merge rare classes."
            )
