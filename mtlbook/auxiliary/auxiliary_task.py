r"""Section 7, auxiliary tasks: added to a main task's data, checked for leaks, and shuffled.

The loss is L = L_main + Σ_a λ_a L_a (Caruana, 1997, section 4; Ruder, 2017, section 7), of which
the main task alone counts at test time: `LinearScalarisation({"main": 1.0, "extra": 0.1})` in any
loop.

**Where it fails.** What the main task also has as an input it cannot learn from as an output, and a
label that does not vary says nothing: both are refused here. A label that is known late, and is
among the inputs only in training, is the user's to see.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

# Of fewer rows two columns are soon equal by chance.
FEWEST_ROWS = 8
# What is left of a column by the best shift and scale of an input, in parts of its variance.
ROUNDING = 1e-12


def check_auxiliaries(data: MultiTaskData, main: str, columns: Sequence[str] | None = None) -> None:
    """Refuse auxiliary tasks that are inputs already, or that do not vary.

    Every column of an auxiliary's targets is compared with every column of floating-point inputs,
    also shifted and scaled, on the rows that carry its label (where there are at least eight).

    Arguments:
        data: with a main task and auxiliary ones.
        main: the name of the main task; all others are auxiliary.
        columns: names of the inputs' columns, for the message; by default their numbers.

    Raises:
        UsageError: for a main task that the data do not have, an auxiliary whose labels are all
            equal, or one that equals an input, with the names of the columns.

    Example:
        >>> x = torch.arange(20.0).reshape(10, 2).square()
        >>> tasks = [Task.regression("price"), Task.regression("area")]
        >>> targets = {"price": x.sum(1), "area": 3 * x[:, 1] + 1}
        >>> leaking = MultiTaskData.multi_label(tasks, x, targets)
        >>> from mtlbook.errors import UsageError
        >>> try:
        ...     check_auxiliaries(leaking, "price", columns=["age", "size"])
        ... except UsageError as error:
        ...     print(str(error)[:84])
        The auxiliary task 'area' is among the inputs: its target equals input 'size', up to
    """
    names = [task.name for task in data.tasks]
    if main not in names:
        raise UsageError(f"The main task {main!r} is not one of the tasks: choose one of {names}.")
    inputs = _float_columns(data, columns)
    for task in data.tasks:
        if task.name != main:
            _check(data, task, inputs)


def add_auxiliary(
    data: MultiTaskData,
    task: Task,
    values: Shaped[Tensor, "rows ..."],
    labelled: Bool[Tensor, " rows"] | None = None,
) -> MultiTaskData:
    """The data with an auxiliary task behind those that it has.

    The main task stays first: trunk and main head of a network are drawn before the new head, so
    that a weight of 0 gives the main task's own training to the bit.

    Arguments:
        data: of the main task, and of earlier auxiliary ones.
        task: the auxiliary task, which may be of another kind.
        values: its targets.
        labelled: the rows that carry its label; by default all.

    Raises:
        UsageError: as `check_auxiliaries`, and for a task without labels.

    Example:
        >>> main = MultiTaskData.multi_label(
        ...     [Task.binary("ill")], torch.eye(10), {"ill": torch.arange(10) % 2}
        ... )
        >>> both = add_auxiliary(main, Task.regression("days"), torch.arange(10.0))
        >>> [task.name for task in both.tasks]
        ['ill', 'days']
    """
    marks = torch.ones(data.rows, dtype=torch.bool) if labelled is None else labelled
    joint = MultiTaskData.partial(
        [*data.tasks, task],
        data.inputs,
        data.targets | {task.name: values},
        data.labelled | {task.name: marks},
    )
    _check(joint, task, _float_columns(joint, None))
    return joint


def shuffled(
    data: MultiTaskData, task: str, seed: int, *, within: str | None = None
) -> MultiTaskData:
    """The data with one task's labels permuted among the rows that carry them: the control.

    The task keeps its output, its loss, its weight, and the distribution of its labels, and loses
    what they say about the inputs (Caruana, 1997, section 3.1). A label that is tied to the main
    one is permuted `within` the main task's classes: it keeps that tie, and nothing else.

    Arguments:
        data: left as they are.
        task: whose labels are permuted.
        seed: of the permutation.
        within: a binary or classification task; rows without its label are a class of their own.

    Raises:
        UsageError: for a task that the data do not have, or `within` one without classes.

    Example:
        >>> tasks = [Task.binary("ill"), Task.regression("days")]
        >>> targets = {"ill": torch.tensor([0.0, 0.0, 1.0, 1.0]), "days": torch.arange(4.0)}
        >>> data = MultiTaskData.multi_label(tasks, torch.eye(4), targets)
        >>> shuffled(data, "days", seed=2, within="ill").targets["days"].flatten()
        tensor([1., 0., 3., 2.])
    """
    known = {own.name for own in data.tasks}
    unknown = {task, within} - known - {None}
    if unknown:
        raise UsageError(
            f"There is no task {sorted(map(str, unknown))}: choose of {sorted(known)}."
        )
    group = torch.zeros(data.rows, dtype=torch.int64)
    if within is not None:
        classes = data.targets[within].reshape(data.rows, -1)
        if classes.shape[1] != 1 or not bool((classes == classes.round()).all()):
            raise UsageError(
                f"Labels are shuffled within the classes of a task, and {within!r} has none: name "
                "a binary or classification task."
            )
        group = torch.where(data.labelled[within], classes[:, 0].long() + 1, 0)
    order = torch.arange(data.rows)
    source = generator(seed, "shuffled", task)
    for own in group.unique():
        rows = torch.nonzero((group == own) & data.labelled[task])[:, 0]
        order[rows] = rows[torch.randperm(len(rows), generator=source)]
    targets = data.targets | {task: data.targets[task][order]}
    return MultiTaskData.partial(data.tasks, data.inputs, targets, data.labelled)


def equal_columns(
    first: Float[Tensor, "rows columns"], second: Float[Tensor, "rows others"]
) -> list[tuple[int, int]]:
    """The columns of the first table that are columns of the second, also shifted and scaled.

    Columns that do not vary equal nothing, and neither does anything on fewer than eight rows.

    Example:
        >>> x = torch.arange(16.0).reshape(8, 2).square()
        >>> equal_columns(x, torch.stack([x.sum(1), 1 - 3 * x[:, 1]], dim=1))
        [(1, 1)]
    """
    if len(first) < FEWEST_ROWS:
        return []
    alike = _standardised(first.double()).T @ _standardised(second.double()) / len(first)
    return [(i, j) for i, j in torch.nonzero(1 - alike.square() < ROUNDING).tolist()]


def _float_columns(
    data: MultiTaskData, columns: Sequence[str] | None
) -> dict[str, Float[Tensor, " rows"]]:
    """The columns of the inputs by name; words and masks are no columns."""
    given = {"": data.inputs} if isinstance(data.inputs, Tensor) else data.inputs
    found: dict[str, Tensor] = {}
    for name, values in given.items():
        if values.is_floating_point():
            flat = values.reshape(data.rows, -1)
            numbers = range(flat.shape[1])
            own = [f"{name} {n}".strip() for n in numbers] if columns is None else columns
            if len(own) != flat.shape[1]:
                raise UsageError(f"{len(own)} names for {flat.shape[1]} input columns: name each.")
            found |= dict(zip(own, flat.double().T, strict=True))
    return found


def _check(data: MultiTaskData, task: Task, inputs: dict[str, Float[Tensor, " rows"]]) -> None:
    """Refuse an auxiliary task that does not vary or that is an input."""
    marks, target = data.labelled[task.name], data.targets[task.name]
    known = target[marks]
    values = known[known >= 0] if not known.is_floating_point() else known
    flat = known.reshape(len(known), -1)
    if len(values) and bool((values == values.reshape(-1)[0]).all()):
        raise UsageError(
            f"All labels of the auxiliary task {task.name!r} are {values.reshape(-1)[0].item():g}: "
            "a constant teaches nothing; leave the task out."
        )
    if not inputs:
        return
    equal = equal_columns(torch.stack(list(inputs.values()), dim=1)[marks], flat.double())
    if equal:
        names = list(inputs)
        found = ", ".join(
            f"column {column} equals input {names[number]!r}"
            if flat.shape[1] > 1
            else f"its target equals input {names[number]!r}"
            for number, column in equal
        )
        raise UsageError(
            f"The auxiliary task {task.name!r} is among the inputs: {found}, up to shift and "
            "scale. Take the column out of the inputs, or the task out of the tasks."
        )


def _standardised(values: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Mean 0 and mean square 1; what does not vary becomes 0, which equals nothing."""
    centred = values - values.mean(0)
    size = centred.square().mean(0).sqrt()
    scale = values.abs().amax(0)
    return torch.where(size > 1e-12 * scale, centred / size.where(size > 0, 1), 0)
