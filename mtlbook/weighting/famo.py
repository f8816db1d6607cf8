"""FAMO: all log-losses fall at a like rate, learnt from the losses before and after each step."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.tasks import Task
from mtlbook.weighting.adam import Adam

# Keeps the logarithm of a loss that has reached its lower bound finite, as the authors' code does.
LEAST = 1e-8


class FAMO(Combiner):
    """w_t = c z_t / L_t, z = softmax(ξ), c = 1 / Σ_t (z_t / L_t): one backward pass a step.

    After the step the same batch's losses L' give δ = Jᵀ(log L - log L'), with J the Jacobian of
    the softmax, and ξ follows the gradient δ + γ ξ (Liu, Feng, Stone and Liu, 2023, algorithm 1):
    a task whose logarithm fell less than the others' gains weight. By Adam with the decay inside
    its gradient, as in the authors' code; the paper writes plain steps.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        learning_rate: of ξ.
        decay: γ. The authors' experiments use 0.01, 0.001 and others.
        lower_bound: what is subtracted from the losses, which must stay above it.

    Attributes:
        logits: ξ, 0 at the start.
    """

    losses_after = True
    logits: Float[Tensor, "*replicas tasks"]

    def __init__(
        self,
        tasks: Sequence[Task | str],
        learning_rate: float = 0.025,
        decay: float = 0.001,
        lower_bound: float = 0.0,
    ) -> None:
        super().__init__(tasks)
        self.decay, self.lower_bound = decay, lower_bound
        self.register_buffer("logits", torch.zeros(len(self.tasks)))
        self.optimiser = Adam(len(self.tasks), learning_rate)

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights by the present ξ, over the tasks that have a label; of sum 1."""
        ratios = self._z(evidence.labelled).to(evidence.losses) / self._above(evidence.losses)
        ratios = ratios.where(evidence.labelled, 0)
        return ratios / ratios.sum(-1, keepdim=True).clamp(min=torch.finfo(ratios.dtype).tiny)

    def after(self, before: Evidence, losses: Float[Tensor, "*replicas tasks"]) -> None:
        """One step of ξ."""
        fall = self._above(before.losses).log() - self._above(losses).log()
        fall = fall.where(before.labelled, 0).to(self.logits)
        z = self._z(before.labelled)
        gradient = z * (fall - (z * fall).sum(-1, keepdim=True))
        self.logits += self.optimiser(gradient + self.decay * self.logits, before.labelled)

    def _z(self, labelled: Bool[Tensor, "*replicas tasks"]) -> Float[Tensor, "*replicas tasks"]:
        return self.logits.masked_fill(~labelled, -torch.inf).softmax(-1).nan_to_num(nan=0.0)

    def _above(self, losses: Float[Tensor, "*replicas tasks"]) -> Float[Tensor, "*replicas tasks"]:
        return (losses - self.lower_bound + LEAST).clamp(min=LEAST)
