"""STCH, smooth Chebyshev scalarisation: nearly the largest of the weighted losses is minimised."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task


class SmoothChebyshev(Combiner):
    """μ log Σ_t exp(λ_t (L_t - z_t) / μ), by the weights λ_t softmax_t(λ (L - z) / μ).

    Lin, Zhang, Yang, Liu, Wang and Zhang (2024), equation 8. μ → 0 is the Chebyshev scalarisation
    max_t λ_t (L_t - z_t), which reaches every weakly Pareto-optimal point, those of a front's
    non-convex part, too; μ → ∞ has the direction of the linear one, Σ_t λ_t L_t. The authors'
    multi-task code uses logarithms of the losses, a warm-up and K times this loss; here the losses
    are as they are, and `preferences` carry their scales.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        smoothness: μ > 0, in the unit of λ L.
        preferences: λ > 0, one a task; by default 1 / K.
        ideal: z, what each loss would be at best, or a little less; by default 0.

    Attributes:
        preferences: λ.
        ideal: z.

    Raises:
        UsageError: for a smoothness or preferences that are not positive, or of another number.
    """

    preferences: Float[Tensor, "*replicas tasks"]
    ideal: Float[Tensor, "*replicas tasks"]

    def __init__(
        self,
        tasks: Sequence[Task | str],
        smoothness: float = 0.1,
        preferences: Sequence[float] | None = None,
        ideal: Sequence[float] | None = None,
    ) -> None:
        super().__init__(tasks)
        number = len(self.tasks)
        chosen = [1 / number] * number if preferences is None else list(preferences)
        best = [0.0] * number if ideal is None else list(ideal)
        if not 0 < smoothness < float("inf"):
            raise UsageError(f"smoothness is a positive number, not {smoothness}.")
        if len(chosen) != number or len(best) != number:
            raise UsageError(f"There are {number} tasks: give a preference and an ideal for each.")
        if not min(chosen) > 0:
            raise UsageError(f"preferences are positive numbers, not {chosen}.")
        self.smoothness = smoothness
        self.register_buffer("preferences", torch.tensor(chosen, dtype=torch.float64))
        self.register_buffer("ideal", torch.tensor(best, dtype=torch.float64))

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The gradient of the scalarisation by the losses, over the tasks that have a label."""
        preferences = self.preferences.to(evidence.losses)
        above = preferences * (evidence.losses - self.ideal.to(evidence.losses)) / self.smoothness
        shares = above.masked_fill(~evidence.labelled, -torch.inf).softmax(-1).nan_to_num(nan=0.0)
        return preferences * shares
