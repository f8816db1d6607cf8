"""A window over a sequence: each position sees its neighbours (Collobert et al., 2011)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.errors import UsageError


class Window(nn.Module):
    """Layers of windows, h_t = tanh(W [x_{t−r}; …; x_{t+r}] + b) (Collobert et al., 2011, §3.2.1).

    The paper has one such layer, with a hard tanh. A layer is a convolution of width 2r + 1, and
    l layers see 2rl + 1 positions. Outside of the sequence, and outside the mask, x is 0.

    Arguments:
        inputs: features of each position.
        units: of each layer.
        layers: one upon the other.
        reach: r, the neighbours on each side that a layer sees.

    Raises:
        UsageError: for a width or depth below 1, or a negative reach.

    Example:
        >>> Window(5, 8, layers=2)(torch.ones(2, 7, 5)).shape
        torch.Size([2, 7, 8])
    """

    def __init__(self, inputs: int, units: int, layers: int = 1, *, reach: int = 1) -> None:
        super().__init__()
        if min(inputs, units, layers) < 1 or reach < 0:
            raise UsageError(
                f"A window network of {inputs} inputs, {units} units, {layers} layers and a reach "
                f"of {reach}: give at least one of each, and a reach of 0 or more."
            )
        self.reach = reach
        widths = [inputs, *[units] * (layers - 1)]
        self.layers = nn.ModuleList(nn.Linear((2 * reach + 1) * width, units) for width in widths)

    def forward(
        self,
        sequence: Float[Tensor, "examples length inputs"],
        mask: Bool[Tensor, "examples length"] | None = None,
    ) -> Float[Tensor, "examples length units"]:
        """The last layer's features at every position, 0 outside the mask."""
        states = sequence if mask is None else sequence * mask.unsqueeze(-1)
        for layer in self.layers:
            states = layer(self._windows(states)).tanh()
            if mask is not None:
                states = states * mask.unsqueeze(-1)
        return states

    def _windows(self, states: Tensor) -> Tensor:
        """The features of each position and its neighbours, from the leftmost on."""
        length = states.shape[1]
        padded = F.pad(states, (0, 0, self.reach, self.reach))
        shifts = range(2 * self.reach + 1)
        return torch.cat([padded[:, shift : shift + length] for shift in shifts], -1)
