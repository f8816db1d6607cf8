"""Linear scalarisation: a fixed weight for each task's loss (uniform weights are its default)."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError


class LinearScalarisation(Combiner):
    """The weighted sum of the task losses, L = Σ_t w_t L_t.

    Every minimiser for positive weights is Pareto optimal: no task can improve without another
    losing. As w moves, the minimiser walks along the convex part of the trade-off curve.

    Arguments:
        weights: one a task, by its name, not negative and not all zero.

    Raises:
        UsageError: for weights without names, or impossible ones.

    Example:
        >>> joint = LinearScalarisation({"depth": 1.0, "segments": 0.5})
        >>> joint(torch.tensor([2.0, 4.0]))
        tensor(4.)
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        if not isinstance(weights, Mapping):
            raise UsageError(
                "Weights belong to tasks by name, since the order of tasks is not the same "
                'everywhere: give a mapping such as {"depth": 1.0, "segments": 0.5}, not '
                f"{weights!r}."
            )
        values = list(weights.values())
        if not all(math.isfinite(w) and w >= 0 for w in values) or not any(values):
            raise UsageError(
                f"Weights are one number a task, not negative and not all zero: {dict(weights)} "
                "are not."
            )
        super().__init__(list(weights))
        # Not a buffer: these are not rounded to the precision that the module happens to have.
        self.weights = dict(weights)

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The given weights, at each step."""
        values = [float(self.weights[task]) for task in self.tasks]
        return evidence.losses.new_tensor(values).where(evidence.labelled, 0)

    def by_name(
        self, losses: Mapping[str, Float[Tensor, "*replicas"]]
    ) -> Float[Tensor, "*replicas"]:
        """The weighted sum of losses by name, such as the criterion of early stopping.

        Fixed weights do not move, so that its values can be compared over a training.
        """
        return torch.stack([self.weights[task] * losses[task] for task in self.tasks]).sum(0)
