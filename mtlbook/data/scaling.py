"""Standardising with what training rows say: nothing of a test row enters the scale of its inputs.

Loaders give tables in their own units. `scaled` puts a table into units of one seed's training
rows, and is called once a seed: `data=lambda seed: scaled(table, split, seed)`, with the split of
the training's `Settings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.tasks import Task


@dataclass(frozen=True, eq=False)
class RawTable:
    """Flat inputs of which some are missing (NaN), with the targets of several tasks.

    `scaled` makes multi-task data of it: the mean that fills a gap has to come from training rows.

    Attributes:
        tasks, targets, labelled: as in `MultiTaskData`.
        inputs: in their own units; NaN where one is missing.
    """

    tasks: tuple[Task, ...]
    inputs: Float[Tensor, "rows columns"]
    targets: dict[str, Shaped[Tensor, "rows ..."]]
    labelled: dict[str, Bool[Tensor, " rows"]]

    def filled(self, values: float | Float[Tensor, " columns"] = 0.0) -> MultiTaskData:
        """Multi-task data with these values, one a column or one for all, in the gaps."""
        inputs = torch.where(torch.isnan(self.inputs), values, self.inputs)
        return MultiTaskData.partial(self.tasks, inputs, self.targets, self.labelled)


def scaled(
    data: MultiTaskData | RawTable,
    split: Holdout,
    seed: int,
    *,
    columns: slice | Sequence[int] = slice(None),
    targets: bool | Sequence[str] = True,
    together: bool = False,
) -> MultiTaskData:
    r"""Data in units of one seed's training rows.

    A gap is filled with the mean of the known values in the training rows; then
    $x' = (x - m) / s$ with the mean $m$ and the standard deviation $s$ of the training rows that
    `split.draw(data, seed)` gives, for each column of the inputs and of the targets; of a target
    over the training rows whose label may be used. A column that is constant in the training rows
    says nothing about the target and becomes 0.

    Arguments:
        data: with flat inputs.
        split: also that of the training.
        seed: also that of the training.
        columns: of the inputs that are scaled; others stay as they are.
        targets: the regressions whose targets are scaled: all, none, or those of these names.
        together: all targets are one quantity and have one mean and one standard deviation, so that
            the tasks' differences in level stay.

    Raises:
        UsageError: for inputs that are not flat, targets that are not those of a regression, a
            split that cannot be drawn, or a column without any known value in the training rows.

    Example:
        >>> price, rows = Task.regression("price"), torch.arange(5.0)[:, None]
        >>> data = MultiTaskData.multi_label([price], rows, {"price": 10 * rows})
        >>> split = Holdout(train=3, validation=1, test=1)
        >>> new = scaled(data, split, seed=0)
        >>> bool(new.inputs[split.draw(data, seed=0).train].mean().abs() < 1e-6)
        True
    """
    if not isinstance(data.inputs, Tensor) or data.inputs.ndim != 2:
        raise UsageError(
            "The columns of flat inputs are scaled, and each example needs one row of them: "
            "flatten images, and scale inputs of several kinds one by one with `standardised`."
        )
    complete = data.filled() if isinstance(data, RawTable) else data
    drawn = split.draw(complete, seed)
    if isinstance(data, RawTable):
        complete = data.filled(_known_means(data.inputs[drawn.train]))
    inputs = complete.inputs.clone()
    inputs[:, columns] = standardised(inputs[:, columns], inputs[drawn.train][:, columns])

    names = _regressions(data.tasks, targets)
    known = {
        name: complete.targets[name][drawn.train[drawn.labelled[name][drawn.train]]]
        for name in names
    }
    if together and known:
        known = dict.fromkeys(names, torch.cat(list(known.values())))
    new = {name: standardised(complete.targets[name], known[name]) for name in names}
    return replace(complete, inputs=inputs, targets=complete.targets | new)


def standardised(
    values: Float[Tensor, "rows columns"], training: Float[Tensor, "training columns"]
) -> Float[Tensor, "rows columns"]:
    """Columns in units of the training rows' means and standard deviations.

    A column that is constant in the training rows becomes 0.

    Example:
        >>> standardised(torch.tensor([[4.0], [8.0]]), torch.tensor([[1.0], [3.0]]))
        tensor([[2.],
                [6.]])
    """
    spread = training.std(0, correction=0)
    # The deviations of a constant column are 0 up to rounding, which must not be blown up.
    constant = training.amax(0) == training.amin(0)
    return torch.where(
        constant, 0.0, (values - training.mean(0)) / torch.where(constant, 1.0, spread)
    )


def _known_means(training: Float[Tensor, "training columns"]) -> Float[Tensor, " columns"]:
    """The mean of each column's known values."""
    nowhere = torch.isnan(training).all(0)
    if bool(nowhere.any()):
        raise UsageError(
            f"The column {int(nowhere.nonzero()[0, 0])} of the inputs has no known value in the "
            f"{len(training)} training rows: leave it out, or ask for more training rows."
        )
    return training.nanmean(0)


def _regressions(tasks: Sequence[Task], targets: bool | Sequence[str]) -> list[str]:
    """The names of the tasks whose targets are scaled."""
    possible = [task.name for task in tasks if task.likelihood == "gaussian"]
    if isinstance(targets, bool):
        return possible if targets else []
    wrong = [name for name in targets if name not in possible]
    if wrong:
        raise UsageError(
            f"The targets of {wrong} cannot be scaled: only those of regressions can, here "
            f"{possible}."
        )
    return list(targets)
