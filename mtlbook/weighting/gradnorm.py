"""GradNorm: weights that bring the tasks' gradient norms to rates that balance their training."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.weighting.adam import Adam

# Adam may step beyond 0, where a weight would make its task's loss grow.
LEAST = 1e-6


class GradNorm(Combiner):
    """Weights w that minimise Σ_t |w_t n_t - C_t|, with C_t = mean_j(w_j n_j) r_t^α held fixed.

    n_t = ‖∇L_t‖ at the last shared weight and r_t = (L_t / L_t(0)) / mean_j(L_j / L_j(0)), the
    inverse training rate (Chen, Badrinarayanan, Lee and Rabinovich, 2018, equations 1 and 2). After
    each step by ∂/∂w_t = sign(w_t n_t - C_t) n_t, w is scaled to the sum K (their algorithm 1). The
    network takes its step by the weights before theirs. Weights are kept above 0, which the paper
    does not say; Adam steps beyond it where a norm is a hundred times the others.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses, which are positive.
        alpha: the strength of the pull towards equal rates; 0 makes all w_t n_t equal.
        learning_rate: of Adam, the weights' own optimiser.

    Attributes:
        weights: w.
        initial_losses: L_t(0), the loss at the first step that has a label of t; NaN before it.
    """

    gramian_at = "last"
    weights: Float[Tensor, "*replicas tasks"]
    initial_losses: Float[Tensor, "*replicas tasks"]

    def __init__(
        self, tasks: Sequence[Task | str], alpha: float = 1.5, learning_rate: float = 0.025
    ) -> None:
        super().__init__(tasks)
        self.alpha = alpha
        self.register_buffer("weights", torch.ones(len(self.tasks)))
        self.register_buffer("initial_losses", torch.full((len(self.tasks),), torch.nan))
        self.optimiser = Adam(len(self.tasks), learning_rate)

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights as they were before this step's update."""
        if evidence.gramian is None:
            raise UsageError("GradNorm needs the Gramian at the last shared weight: give it.")
        weights = self.weights.to(evidence.losses, copy=True)
        if self.training:
            self._update(evidence, evidence.gramian)
        return weights.masked_fill(~evidence.labelled, 0)

    def _update(self, evidence: Evidence, gramian: Float[Tensor, "*replicas tasks tasks"]) -> None:
        labelled, losses = evidence.labelled, evidence.losses.to(self.weights)
        first = labelled & self.initial_losses.isnan()
        self.initial_losses.copy_(torch.where(first, losses, self.initial_losses))
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt().to(self.weights)
        progress = losses / self.initial_losses
        rates = progress / _mean(progress, labelled)
        present = self.weights * norms
        target = _mean(present, labelled) * rates**self.alpha
        step = self.optimiser((present - target).sign() * norms, labelled)
        moved = (self.weights + step).clamp(min=LEAST)
        # The sum of the weights of the tasks that take part stays what it was: K at the start.
        scale = _sum(self.weights, labelled) / _sum(moved, labelled)
        self.weights.copy_(torch.where(labelled, moved * scale, self.weights))


def _sum(
    values: Float[Tensor, "*replicas tasks"], labelled: Tensor
) -> Float[Tensor, "*replicas 1"]:
    return values.where(labelled, 0).sum(-1, keepdim=True)


def _mean(
    values: Float[Tensor, "*replicas tasks"], labelled: Tensor
) -> Float[Tensor, "*replicas 1"]:
    return _sum(values, labelled) / labelled.sum(-1, keepdim=True)
