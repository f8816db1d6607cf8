"""Auto-λ: weights by which a step on one batch lowers the primary tasks' loss on another."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence, LookAhead
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.weighting.adam import Adam


class AutoLambda(Combiner):
    """λ follows -∂/∂λ Σ_p L_p(θ'(λ); second stream), with θ'(λ) = θ - η Σ_t λ_t ∇L_t(θ; batch).

    Liu, James, Davison and Johns (2022), equation 4, of which the derivative is exactly
    ∂/∂λ_t = -η Σ_p <∇L_t(θ; batch), ∇L_p(θ'; second stream)>, the cross-Gramian; the paper takes it
    by finite differences. Give a stream of held-out rows: the authors' code reshuffles the training
    rows. The virtual step is one of plain gradient descent whatever the optimiser, and λ may turn
    negative, both as in the paper.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        primary: the names of those whose loss counts.
        stream: the name of the second stream, which holds the same tasks.
        step_size: η.
        initial_weight: λ_t before training.
        learning_rate: of Adam, the weights' own optimiser.

    Attributes:
        weights: λ.

    Raises:
        UsageError: where a primary task is none of the tasks.
    """

    weights: Float[Tensor, "*replicas tasks"]

    def __init__(
        self,
        tasks: Sequence[Task | str],
        primary: Sequence[str],
        *,
        stream: str,
        step_size: float,
        initial_weight: float = 0.1,
        learning_rate: float = 1e-4,
    ) -> None:
        super().__init__(tasks)
        unknown = sorted(set(primary) - set(self.tasks))
        if unknown or not primary:
            raise UsageError(
                f"The primary tasks are one or more of {list(self.tasks)}, not {list(primary)}."
            )
        self.primary = [self.tasks.index(name) for name in primary]
        self.looks_ahead = LookAhead(stream, step_size)
        self.step_size = step_size
        self.register_buffer("weights", torch.full((len(self.tasks),), initial_weight))
        self.optimiser = Adam(len(self.tasks), learning_rate)

    def virtual_weights(self) -> Float[Tensor, "*replicas tasks"]:
        """λ before the step's update."""
        return self.weights

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """λ after the step's update, as in the authors' code."""
        if self.training:
            if evidence.cross is None:
                raise UsageError("AutoLambda needs the cross-Gramian with its stream: give it.")
            gradient = -self.step_size * evidence.cross[..., self.primary].sum(-1)
            self.weights += self.optimiser(gradient, evidence.labelled)
        return self.weights.to(evidence.losses, copy=True).masked_fill(~evidence.labelled, 0)
