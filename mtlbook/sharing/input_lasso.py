r"""A group lasso over the inputs of a network (Scardapane, Comminiello, Hussain and Uncini, 2017).

$$\Omega(W) = \lambda \sum_j \lVert w_j \rVert_2,$$

with $w_j$ the weights of a first layer that leave input $j$ (section 3 there; Feng and Simon,
2017). Its proximal map for a step η shortens each column by ηλ and sets those that are shorter to
0, so that whole inputs are switched off.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError


class InputLasso:
    """The group lasso over the columns of first layers: a penalty, and its proximal map.

    Arguments:
        layers: names of first-layer weights, each `(..., hidden, inputs)`, or the last components
            of their names: `trunk.0.weight` is `model.trunk.0.weight`, too.
        strength: λ, not below 0.

    Raises:
        UsageError: for a strength below 0; for a model, or parameters, without any such layer.

    Example:
        >>> InputLasso(["weight"], 1.0).shrink(torch.tensor([[3.0, 0.3], [4.0, 0.4]]), 2.5)
        tensor([[1.5000, 0.0000],
                [2.0000, 0.0000]])
    """

    def __init__(self, layers: Sequence[str], strength: float) -> None:
        if not strength >= 0:
            raise UsageError(f"The strength of the lasso must not be below 0, as {strength} is.")
        self.layers = layers
        self.strength = strength

    def __call__(self, model: nn.Module) -> Float[Tensor, ""]:
        """The penalty itself."""
        lengths = [weight.norm(dim=-2).sum() for weight in self._weights(model.named_parameters())]
        return self.strength * torch.stack(lengths).sum()

    @torch.no_grad()
    def pull(self, named: Iterable[tuple[str, Tensor]], step_size: float) -> None:
        """The proximal map for a step of that size, in place on the layers among the parameters."""
        for weight in self._weights(named):
            weight.copy_(self.shrink(weight, step_size * self.strength))

    @staticmethod
    def shrink(
        weight: Float[Tensor, "*networks hidden inputs"], amount: float
    ) -> Float[Tensor, "*networks hidden inputs"]:
        """Each column shortened by the amount, at least to 0."""
        length = weight.norm(dim=-2, keepdim=True)
        kept = (1 - amount / torch.where(length > 0, length, 1.0)).clamp(min=0)
        return kept * weight

    def _weights(self, named: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
        named = list(named)
        # With a dot before, so that only whole components of a name match.
        ends = tuple(f".{layer}" for layer in self.layers)
        found = [values for name, values in named if f".{name}".endswith(ends)]
        if not found:
            raise UsageError(
                f"No parameter is named {' or '.join(self.layers)}: there are "
                f"{', '.join(name for name, _ in named)}."
            )
        return found
