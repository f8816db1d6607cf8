"""PCGrad: of each gradient, what conflicts with another is projected away."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mtlbook.balancing.solving import gramian_of
from mtlbook.combiner import Evidence, RandomCombiner
from mtlbook.tasks import Task


class PCGrad(RandomCombiner):
    """For each i, and each j ≠ i in random order, g_i ← g_i - min(0, <g_i, g_j>) g_j / ‖g_j‖².

    Yu, Kumar, Gupta, Levine, Hausman and Finn (2020), algorithm 1: g_j is the original gradient,
    and the step is along the sum of the changed ones. The order is drawn anew for each i and step;
    several released codes have a fixed one, or let j = i take part. Without conflict it is the sum
    of the gradients. With more than two tasks the result may still conflict with one of them.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        seed: of the orders; `fit` replaces it by each replica's.
        heads: whether heads follow their own losses, or the weighted ones.
    """

    gramian_at = "shared"
    purpose = "order of gradient projections"

    def __init__(
        self,
        tasks: Sequence[Task | str],
        seed: int = 0,
        heads: Literal["weighted", "own"] = "own",
    ) -> None:
        super().__init__(tasks, seed)
        self.heads = heads

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights of the original gradients in the sum of the changed ones."""
        gramian = gramian_of(evidence, self).detach().double().cpu()
        labelled = evidence.labelled.cpu()
        changed = project_in_order(gramian * pairs(labelled), random_order(self, gramian))
        return (changed * labelled[..., None]).sum(-2).to(evidence.losses)


def random_order(
    rule: RandomCombiner, gramian: Float[Tensor, "*replicas tasks tasks"]
) -> Int[Tensor, "*replicas tasks tasks"]:
    """Row i the tasks in the order in which g_i meets them, drawn by a rule for this step."""
    shape = gramian.shape[-2:]
    keys = [torch.rand(shape, generator=each, dtype=torch.float64) for each in rule.sources()]
    return torch.stack(keys).view(gramian.shape).argsort(-1)


def pairs(tasks: Bool[Tensor, "*replicas tasks"]) -> Bool[Tensor, "*replicas tasks tasks"]:
    """Which pairs consist of two of these tasks."""
    return tasks[..., None] & tasks[..., None, :]


def project_in_order(
    gramian: Float[Tensor, "*replicas tasks tasks"], order: Tensor
) -> Float[Tensor, "*replicas tasks tasks"]:
    """The changed gradients as weights of the original ones, row i those of g_i.

    The recursion needs inner products alone: subtracting c g_j from a gradient subtracts c times
    row j of the Gramian from its inner products with all.

    Arguments:
        gramian: G.
        order: row i the tasks in the order in which g_i meets them; i itself is passed over.
    """
    tasks = gramian.shape[-1]
    weights = torch.eye(tasks, dtype=gramian.dtype).expand_as(gramian).clone()
    products, squares = gramian.clone(), gramian.diagonal(dim1=-2, dim2=-1)
    itself = torch.arange(tasks)
    for met in order.unbind(-1):  # met[..., i]: whom g_i meets now
        product = products.gather(-1, met[..., None]).squeeze(-1)
        square = squares.gather(-1, met)
        conflict = (product < 0) & (met != itself) & (square > 0)
        excess = torch.where(conflict, product / square.where(conflict, 1), 0)
        weights.scatter_add_(-1, met[..., None], -excess[..., None])
        rows = gramian.gather(-2, met[..., None].expand_as(gramian))
        products -= excess[..., None] * rows
    return weights
