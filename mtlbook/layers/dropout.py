"""Dropout whose masks are the same on every device, for all seeds at once or one by one."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mtlbook.errors import UsageError

# The constants of the finaliser of splitmix64, as signed numbers; products wrap around.
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def uniform(numbers: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers in [0, 1) that look drawn at random, one for each integer (splitmix64's finaliser).

    Integer arithmetic gives the same result on every device, in whatever order.
    """
    mixed = numbers
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        # A shift of signed numbers copies the sign: the mask takes the copies away.
        mixed = (mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))) * multiplier
    mixed = mixed ^ ((mixed >> 31) & (2**33 - 1))
    return ((mixed >> 11) & (2**53 - 1)).double() * 2.0**-53


class Dropout(nn.Module):
    """Zeroes each input with a probability and scales the others up (Srivastava et al., 2014).

    y = m ⊙ x / (1 − p) with m ~ Bernoulli(1 − p) in training, y = x in evaluation. The mask is a
    function of a key, drawn once when the layer is made, and of the number of the training step:
    PyTorch's own layer draws from one generator a device, which `torch.func.vmap` cannot replay.

    Arguments:
        probability: of an input to become 0, from 0 to below 1.

    Example:
        >>> layer = Dropout(0.5)
        >>> sorted(set(layer(torch.ones(1000)).tolist()))
        [0.0, 2.0]
        >>> layer.eval()(torch.ones(2))
        tensor([1., 1.])
    """

    key: Int[Tensor, ""]
    step: Int[Tensor, ""]

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise UsageError(f"A dropout probability is from 0 to below 1, not {probability}.")
        self.probability = probability
        self.register_buffer("key", torch.randint(2**62, ()))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inputs, some of them dropped while training."""
        if not self.training:
            return inputs
        self.step.add_(1)
        places = torch.arange(inputs.numel(), device=inputs.device).view(inputs.shape)
        # Steps lie 2^40 apart: no two share a place.
        kept = uniform(self.key + (self.step << 40) + places) >= self.probability
        return inputs * kept / (1 - self.probability)
