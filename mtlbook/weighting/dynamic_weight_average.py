"""Dynamic weight average: a task whose loss falls slowly gets a larger weight."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task


class DynamicWeightAverage(Combiner):
    """λ_t = K softmax_t(r_t / T), r_t = L̄_t(p-1) / L̄_t(p-2), L̄_t(p) the mean loss of period p.

    Liu, Johns and Davison (2019), equation 7, where a period is an epoch. r_t = 1, and so
    λ_t = 1, in the first two periods, and for a task that had no label in one of the last two.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        period: steps of a period.
        temperature: T; the larger, the closer the weights are to 1.

    Attributes:
        means: L̄ of the last period and of the one before it; NaN where there is none.
    """

    sums: Float[Tensor, "*replicas tasks"]
    counts: Float[Tensor, "*replicas tasks"]
    means: Float[Tensor, "*replicas 2 tasks"]
    steps: Int[Tensor, "*replicas"]

    def __init__(self, tasks: Sequence[Task | str], period: int, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        if period < 1:
            raise UsageError(f"A period has at least one step, not {period}.")
        if not temperature > 0:
            raise UsageError(f"The temperature is a positive number, not {temperature}.")
        self.period, self.temperature = period, temperature
        number = len(self.tasks)
        self.register_buffer("sums", torch.zeros(number))
        self.register_buffer("counts", torch.zeros(number))
        self.register_buffer("means", torch.full((2, number), torch.nan))
        self.register_buffer("steps", torch.tensor(0))

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """λ by the periods that are over; then the step's losses count for the present one."""
        rates = (self.means[..., 0, :] / self.means[..., 1, :]).nan_to_num(nan=1.0)
        labelled = evidence.labelled
        exponents = (rates / self.temperature).masked_fill(~labelled, -torch.inf)
        weights = labelled.sum(-1, keepdim=True) * exponents.softmax(-1)
        if self.training:
            self._remember(evidence)
        return weights.masked_fill(~labelled, 0).to(evidence.losses)

    def _remember(self, evidence: Evidence) -> None:
        self.sums += evidence.losses.where(evidence.labelled, 0)
        self.counts += evidence.labelled
        self.steps += 1
        over = (self.steps % self.period == 0)[..., None]
        last = torch.stack([self.sums / self.counts, self.means[..., 0, :]], dim=-2)
        self.means.copy_(torch.where(over[..., None], last, self.means))
        self.sums.masked_fill_(over, 0)
        self.counts.masked_fill_(over, 0)
