"""Windows that look one way only: a position sees what came before it, or what follows, not both.

`Window` sees both neighbours of a position, and after two layers a word has told its neighbour
about itself. Here each direction is a stack of its own.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.errors import UsageError


class CausalWindow(nn.Module):
    """Two stacks of windows: →h_t = tanh(W [x_{t−r}; …; x_t] + b), and ←h_t of x_t … x_{t+r}.

    The convolutional counterpart of a recurrent network with separate directions
    (`recurrent.LSTM(..., separate=True)`), without a loop over time: l layers see l·r words back,
    or ahead. Outside of the sequence, and outside the mask, x is 0.

    Arguments:
        inputs: features of each position.
        units: of each layer of each direction; the outputs have twice as many, →h before ←h.
        layers: one upon the other.
        reach: r, how many words a layer sees besides the position itself.

    Raises:
        UsageError: for a width or depth below 1, or a negative reach.

    Example:
        >>> CausalWindow(5, 8, layers=2)(torch.ones(2, 7, 5)).shape
        torch.Size([2, 7, 16])
    """

    def __init__(self, inputs: int, units: int, layers: int = 1, *, reach: int = 2) -> None:
        super().__init__()
        if min(inputs, units, layers) < 1 or reach < 0:
            raise UsageError(
                f"A window network of {inputs} inputs, {units} units, {layers} layers and a reach "
                f"of {reach}: give at least one of each, and a reach of 0 or more."
            )
        self.reach = reach
        widths = [inputs, *[units] * (layers - 1)]
        taps = reach + 1
        self.forwards = nn.ModuleList(nn.Linear(taps * width, units) for width in widths)
        self.backwards = nn.ModuleList(nn.Linear(taps * width, units) for width in widths)

    def forward(
        self,
        sequence: Float[Tensor, "examples length inputs"],
        mask: Bool[Tensor, "examples length"] | None = None,
    ) -> Float[Tensor, "examples length features"]:
        """The last layers' features at every position, →h before ←h, 0 outside the mask."""
        marks = sequence.new_ones(1) if mask is None else mask.unsqueeze(-1)
        after = before = sequence * marks
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            before = ahead(self._windows(before, self.reach)).tanh() * marks
            after = back(self._windows(after, 0)).tanh() * marks
        return torch.cat([before, after], -1)

    def _windows(
        self, states: Float[Tensor, "examples length features"], back: int
    ) -> Float[Tensor, "examples length windows"]:
        """The features of `reach` + 1 positions side by side, from `back` before each one on."""
        length = states.shape[1]
        padded = F.pad(states, (0, 0, back, self.reach - back))
        shifts = range(self.reach + 1)
        return torch.cat([padded[:, shift : shift + length] for shift in shifts], -1)
