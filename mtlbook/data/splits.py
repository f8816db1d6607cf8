"""Splits that keep together what belongs together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator


@dataclass(frozen=True)
class GroupHoldout(Holdout):
    """A random split in which the rows of a group are all in one part.

    For rows that are not independent, such as those of one person, or with the same inputs
    (`equal_inputs`): by a random split of rows, a network that has learnt training rows by heart is
    tested on what it has seen. The groups come in a random order, and each goes to the part that is
    being filled (test, validation, training) if it fits; floats are shares of all rows.

    Attributes:
        groups: the number of each row's group, from 0.

    Raises:
        UsageError: from `draw`, for other rows than groups, or groups that do not fill the parts to
            the row.

    Example:
        >>> from mtlbook.tasks import Task
        >>> split = GroupHoldout(train=2, validation=0, test=2, groups=(0, 1, 1, 0))
        >>> rows = torch.arange(4.0)[:, None]
        >>> data = MultiTaskData.multi_label([Task.regression("y")], rows, {"y": rows})
        >>> sorted(split.draw(data, seed=0).test.tolist()) in ([0, 3], [1, 2])
        True
    """

    groups: Sequence[int] = ()

    def _parts(self, data: MultiTaskData, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = len(next(iter(data.labelled.values())))
        if len(self.groups) != rows:
            raise UsageError(
                f"The split has the groups of {len(self.groups)} rows, and the data {rows} rows: "
                "give each row's group."
            )
        group = torch.tensor(self.groups)
        order = torch.randperm(int(group.max()) + 1, generator=generator(seed, "split by group"))
        waiting = [torch.nonzero(group == number)[:, 0] for number in order.tolist()]
        parts: dict[str, Tensor] = {}
        for part in ("test", "validation", "train"):
            room = asked = self._size(part, len(group))
            taken, left = [torch.empty(0, dtype=torch.long)], []
            if part == "train":
                # Of what is left nearly all is taken: single rows last, to fill it to the row.
                waiting.sort(key=len, reverse=True)
            for members in waiting:
                fits = len(members) <= room
                (taken if fits else left).append(members)
                room -= len(members) if fits else 0
            if room:
                raise UsageError(
                    f"The {part} part of {asked} rows cannot be filled with whole groups, {room} "
                    "are left over: ask for other or smaller parts."
                )
            parts[part], waiting = torch.cat(taken), left
        return parts["train"], parts["validation"], parts["test"]


def equal_inputs(inputs: Float[Tensor, "rows columns"]) -> tuple[int, ...]:
    """The groups of rows with equal inputs, missing ones (NaN) equal to each other.

    Example:
        >>> equal_inputs(torch.tensor([[2.0, torch.nan], [1.0, 1.0], [2.0, torch.nan]]))
        (1, 0, 1)
    """
    known = torch.where(torch.isnan(inputs), torch.inf, inputs)
    return tuple(torch.unique(known, dim=0, return_inverse=True)[1].tolist())
