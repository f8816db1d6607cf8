"""Section 7.9, gated auxiliary gradients: an auxiliary task trains the trunk where it agrees."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.balancing.solving import gramian_of
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task


class SimilarityGating(Combiner):
    """d = g_main + Σ_a max(0, cos(g_main, g_a)) g_a on the shared parameters.

    Du, Czarnecki, Jayakumar, Farajtabar, Pascanu and Lakshminarayanan (2018), section 3: an
    auxiliary gradient counts by its cosine with the main one, or (`weighted=False`) as a whole
    where the cosine is positive. Then <d, g_main> ≥ ‖g_main‖²: along d the main loss falls to first
    order at least as fast as alone. Nothing is said of the length of d, of momentum, or of a batch
    whose gradients are not those of the expected losses. With no auxiliary task that agrees, or
    none at all, it is single-task training. Heads follow their own losses.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        main: the name of the main task.
        weighted: whether a gradient that agrees counts by its cosine, or as a whole.

    Raises:
        UsageError: for a main task that is not among the tasks.

    Example:
        >>> rule = SimilarityGating(["main", "near", "against"], main="main")
        >>> gramian = torch.tensor([[1.0, 0.6, -0.6], [0.6, 1.0, 0.28], [-0.6, 0.28, 1.0]])
        >>> losses, labelled = torch.ones(3), torch.ones(3, dtype=torch.bool)
        >>> rule.weigh(Evidence(losses, labelled, gramian=gramian))
        tensor([1.0000, 0.6000, 0.0000])
    """

    gramian_at = "shared"
    heads = "own"

    def __init__(self, tasks: Sequence[Task | str], main: str, *, weighted: bool = True) -> None:
        super().__init__(tasks)
        if main not in self.tasks:
            raise UsageError(
                f"The main task {main!r} is not one of the tasks: choose one of "
                f"{', '.join(self.tasks)}."
            )
        self.main, self.weighted = self.tasks.index(main), weighted

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """1 for the main task, the gates for the others; all 0 for what has no label.

        Where the main task has no label in the batch there is nothing to agree with: no auxiliary
        gradient reaches the shared parameters.
        """
        gramian = gramian_of(evidence, self)
        lengths = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        products = gramian[..., self.main, :]
        scale = lengths * lengths[..., [self.main]]
        cosine = torch.where(scale > 0, products / scale.where(scale > 0, 1), 0).clamp(min=0)
        gates = cosine if self.weighted else (cosine > 0).to(cosine)
        gates = gates.clone()
        gates[..., self.main] = 1
        known = evidence.labelled & evidence.labelled[..., [self.main]]
        return gates.where(known, 0).to(evidence.losses)
