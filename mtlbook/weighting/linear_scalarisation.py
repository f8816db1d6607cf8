"""Linear scalarisation: a fixed weight for each task's loss (uniform weights are its default)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError


class LinearScalarisation(nn.Module):
    """The weighted sum of the task losses, L = Σ_t w_t L_t, uniform where all w_t = 1.

    Every minimiser for positive weights is Pareto optimal: no task can improve without another
    losing. As w moves, the minimiser walks along the convex part of the trade-off curve.

    Arguments:
        weights: one a task, not negative and not all zero.

    Example:
        >>> LinearScalarisation([1.0, 0.5])(torch.tensor([2.0, 4.0]))
        tensor(4.)
    """

    weights: Float[Tensor, " tasks"]

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        values = torch.as_tensor(weights, dtype=torch.float64)
        if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.sum() > 0):
            raise UsageError(
                f"Weights are one number a task, not negative and not all zero: {list(weights)} "
                "are not."
            )
        self.register_buffer("weights", values)

    def forward(self, losses: Float[Tensor, " tasks"]) -> Float[Tensor, ""]:
        """The loss that is minimised."""
        return self.weights.to(losses) @ losses
