"""GradVac: gradients are turned until their cosines are what they were in the past."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.balancing.pcgrad import pairs, random_order
from mtlbook.balancing.solving import gramian_of
from mtlbook.combiner import Evidence, RandomCombiner
from mtlbook.errors import UsageError
from mtlbook.tasks import Task


class GradVac(RandomCombiner):
    """Where cos(g_i, g_j) = φ < φ̂_ij, g_i ← g_i + c g_j with c so that their cosine is φ̂_ij.

    c = ‖g_i‖ (φ̂ √(1 - φ²) - φ √(1 - φ̂²)) / (‖g_j‖ √(1 - φ̂²)) (Wang, Tsvetkov, Firat and Cao,
    2021, equation 2 and algorithm 1). g_i meets each j ≠ i in random order, g_j being the original,
    and d is the sum of the changed gradients. φ̂_ij is a moving average of φ, met after each turn:
    φ̂ ← (1 - β) φ̂ + β φ, from 0. β = 0 is PCGrad.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        seed: of the orders; `fit` replaces it by each replica's.
        rate: β; 0.01 in the paper, 0.5 in several libraries.
        heads: whether heads follow their own losses, or the weighted ones.

    Attributes:
        targets: φ̂, 0 at the start.

    Raises:
        UsageError: for a rate that is not between 0 and 1.
    """

    gramian_at = "shared"
    purpose = "order of gradient alignments"
    targets: Float[Tensor, "*replicas tasks tasks"]

    def __init__(
        self,
        tasks: Sequence[Task | str],
        seed: int = 0,
        rate: float = 0.01,
        heads: Literal["weighted", "own"] = "own",
    ) -> None:
        super().__init__(tasks, seed)
        if not 0 <= rate <= 1:
            raise UsageError(f"rate is a share of the latest cosine, from 0 to 1, not {rate}.")
        self.rate, self.heads = rate, heads
        number = len(self.tasks)
        self.register_buffer("targets", torch.zeros(number, number, dtype=torch.float64))

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights of the original gradients in the sum of the changed ones."""
        gramian = gramian_of(evidence, self).detach().double().cpu()
        labelled, targets = evidence.labelled.cpu(), self.targets.double().cpu()
        present = pairs(labelled & (gramian.diagonal(dim1=-2, dim2=-1) > 0))
        order = random_order(self, gramian)
        changed, seen = align_in_order(gramian.where(present, 0), order, targets, self.rate)
        if self.training:
            self.targets = seen.where(present, targets).to(self.targets)
        return (changed * labelled[..., None]).sum(-2).to(evidence.losses)


def align_in_order(
    gramian: Float[Tensor, "*replicas tasks tasks"],
    order: Tensor,
    targets: Float[Tensor, "*replicas tasks tasks"],
    rate: float,
) -> tuple[Float[Tensor, "*replicas tasks tasks"], Float[Tensor, "*replicas tasks tasks"]]:
    """The changed gradients as weights of the original ones, row i those of g_i; the new φ̂.

    Arguments:
        gramian: G; rows of zeros take no part.
        order: row i the tasks in the order in which g_i meets them; i itself is passed over.
        targets: φ̂.
        rate: β.
    """
    tasks = gramian.shape[-1]
    weights = torch.eye(tasks, dtype=gramian.dtype).expand_as(gramian).clone()
    targets, itself = targets.clone(), torch.arange(tasks)
    lengths = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
    for met in order.unbind(-1):  # met[..., i]: whom g_i meets now
        place = met[..., None]
        own = (weights @ gramian * weights).sum(-1).clamp(min=0).sqrt()  # ‖g_i‖, changed
        length = lengths.gather(-1, met)
        taking_part = (met != itself) & (own > 0) & (length > 0)
        product = (weights @ gramian).gather(-1, place).squeeze(-1)
        cosine = torch.where(taking_part, product / (own * length).where(taking_part, 1), 1)
        cosine = cosine.clamp(-1, 1)
        target = targets.gather(-1, place).squeeze(-1)
        turned = taking_part & (cosine < target)
        sine, wanted = (1 - cosine**2).sqrt(), (1 - target**2).clamp(min=0).sqrt()
        safe = turned & (wanted > 0)
        factor = own * (target * sine - cosine * wanted) / (length * wanted).where(safe, 1)
        weights.scatter_add_(-1, place, factor.where(safe, 0)[..., None])
        moved = torch.where(taking_part, (1 - rate) * target + rate * cosine, target)
        targets.scatter_(-1, place, moved[..., None])
    return weights, targets
