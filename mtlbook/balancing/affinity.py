"""Task affinity: while one joint training goes on, how much each task's step would help another."""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from mtlbook.balancing.solving import gramian_of
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

# All partitions of ten tasks are 115,975.
MOST_TASKS = 10


class AffinityRecorder(Combiner):
    """Equal weights, and a record of <g_i, g_j> / L_j and of cos(g_i, g_j) over all steps.

    Fifty, Amid, Zhao, Yu, Anil and Finn (2021), equation 1: the affinity of task i to task j is
    1 - L_j(θ_s - η g_i) / L_j(θ_s), what a step for i alone would take from j's loss. To first
    order in η it is η <g_i, g_j> / L_j, which needs no further forward pass. η is a factor in front
    of all, and left out.

    Attributes:
        sums: of <g_i, g_j> / L_j, and of the cosines, by i and j.
        steps: in how many both tasks had a label.
    """

    gramian_at = "shared"
    heads = "own"
    sums: Float[Tensor, "*replicas 2 tasks tasks"]
    steps: Int[Tensor, "*replicas tasks tasks"]

    def __init__(self, tasks: Sequence[Task | str]) -> None:
        super().__init__(tasks)
        number = len(self.tasks)
        self.register_buffer("sums", torch.zeros(2, number, number, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(number, number, dtype=torch.int64))

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """1 for each task that has a label; the step's affinities are added to the sums."""
        if self.training:
            gramian = gramian_of(evidence, self)
            lengths = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
            scale = lengths[..., None] * lengths[..., None, :]
            cosine = torch.where(scale > 0, gramian / scale.where(scale > 0, 1), 0)
            taken = gramian / evidence.losses.abs()[..., None, :].clamp(min=1e-300)
            known = evidence.labelled[..., None] & evidence.labelled[..., None, :]
            both = torch.stack([taken, cosine], dim=-3)
            self.sums += both.where(known[..., None, :, :], 0).to(self.sums)
            self.steps += known
        return super().weigh(evidence)

    @property
    def affinity(self) -> Float[Tensor, "*replicas tasks tasks"]:
        """The mean over steps of <g_i, g_j> / L_j: row i helps column j."""
        return self.sums[..., 0, :, :] / self.steps.clamp(min=1)

    @property
    def cosine(self) -> Float[Tensor, "*replicas tasks tasks"]:
        """The mean over steps of the gradients' cosine."""
        return self.sums[..., 1, :, :] / self.steps.clamp(min=1)


def best_partition(
    affinity: Float[ndarray, "tasks tasks"], *, most: int | None = None
) -> list[list[int]]:
    """The partition of the tasks with the largest Σ_j (mean over i ≠ j of j's group of A_ij).

    A task alone has the affinity 0: it is grouped where that helps it. Among all partitions into
    at most `most` groups; of equal ones the first, which has larger groups.

    Arguments:
        affinity: row i helps column j.
        most: the number of networks that one can afford; by default as many as tasks.

    Raises:
        UsageError: for more tasks than all partitions can be tried of, or a number of groups
            below 1.

    Example:
        >>> best_partition(np.array([[1, 0.5, -0.2], [0.4, 1, -0.1], [0.1, -0.3, 1]]))
        [[0, 1], [2]]
    """
    tasks = len(affinity)
    if tasks > MOST_TASKS:
        raise UsageError(
            f"There are too many partitions of {tasks} tasks: choose {MOST_TASKS} tasks at most."
        )
    if most is not None and most < 1:
        raise UsageError(f"The tasks need at least one group, not {most}.")
    limit = tasks if most is None else most
    value: dict[tuple[int, ...], float] = {(one,): 0.0 for one in range(tasks)}

    def worth(group: tuple[int, ...]) -> float:
        if group not in value:
            own = affinity[np.ix_(group, group)]
            value[group] = float((own.sum() - own.trace()) / (len(group) - 1))
        return value[group]

    tried = ((sum(map(worth, groups)), -order, groups) for order, groups in
             zip(count(), _partitions(tasks, limit), strict=False))  # fmt: skip
    return [list(group) for group in max(tried)[2]]


def _partitions(tasks: int, most: int) -> Iterator[list[tuple[int, ...]]]:
    """All partitions of 0, 1, … into at most so many groups, beginning with a single group."""
    if tasks == 0:
        yield []
        return
    last = tasks - 1
    for groups in _partitions(last, most):
        for place in range(len(groups)):
            yield [*groups[:place], (*groups[place], last), *groups[place + 1 :]]
        if len(groups) < most:
            yield [*groups, (last,)]
