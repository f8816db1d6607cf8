"""Dropout whose masks are the same on every device, for all seeds at once or one by one.

PyTorch's own layer draws from one generator a device: `torch.func.vmap` cannot replay it, and its
masks differ between devices. Write `nn.Dropout`; `fit` exchanges it by `reproducible`.
"""

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.schedule import Stepped
from mtlbook.randomness import generator

Module = TypeVar("Module", bound=nn.Module)

# The constants of the finaliser of splitmix64, as signed numbers; products wrap around.
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_KEYS = 2**62
_OTHER_DROPOUT = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def random_bits(numbers: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """For each integer another one below 2^53 that looks drawn at random (splitmix64's finaliser).

    Integer arithmetic gives the same result on every device, in whatever order, and needs no
    float64, which some devices do not have.
    """
    mixed = numbers
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        # A shift of signed numbers copies the sign: the mask takes the copies away.
        mixed = (mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))) * multiplier
    mixed = mixed ^ ((mixed >> 31) & (2**33 - 1))
    return (mixed >> 11) & (2**53 - 1)


class Dropout(Stepped):
    """Zeroes each input with a probability and scales the others up (Srivastava et al., 2014).

    y = m ⊙ x / (1 − p) with m ~ Bernoulli(1 − p) in training, y = x in evaluation. The mask is a
    function of the layer's key, the training step and the place in the inputs. It is drawn anew at
    each step that `fit` or `advance` begins, and a forward pass that is repeated within a step (as
    by activation checkpointing) meets the same mask. Hence the *same* layer that is called twice
    within a step, at two depths or on two minibatches, drops the same places both times, as in
    Gal and Ghahramani (2016); give each depth a layer of its own where that is not wanted.

    Arguments:
        probability: of an input to become 0, from 0 to below 1.
        key: from which the masks are drawn; by default drawn itself, by PyTorch's generator.

    Example:
        >>> layer = Dropout(0.5)
        >>> sorted(set(layer(torch.ones(1000)).tolist()))
        [0.0, 2.0]
        >>> layer.eval()(torch.ones(2))
        tensor([1., 1.])
    """

    key: Int[Tensor, ""]

    def __init__(self, probability: float = 0.5, key: int | None = None) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise UsageError(f"A dropout probability is from 0 to below 1, not {probability}.")
        self.probability = probability
        drawn = torch.randint(_KEYS, ()) if key is None else torch.tensor(key)
        self.register_buffer("key", drawn)

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inputs, some of them dropped while training."""
        if not self.training:
            return inputs
        places = torch.arange(inputs.numel(), device=inputs.device).view(inputs.shape)
        # Steps lie 2^40 apart: no two share a place.
        bits = random_bits(self.key + (self.step << 40) + places)
        # u ≥ p for u = bits / 2^53, compared as integers.
        kept = bits >= math.ceil(self.probability * 2**53)
        return inputs * kept / (1 - self.probability)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.probability}"


def give_own_keys(module: Module, number: int) -> Module:
    """Give each `Dropout` of a copied module a key of its own: copies would share their masks.

    Arguments:
        module: the copy, changed in place and returned.
        number: which copy it is; each number gives other keys.
    """
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.key.copy_(random_bits(layer.key + number))
    return module


def reproducible(model: nn.Module, seed: int) -> nn.Module:
    """Exchange every `nn.Dropout` of a model for the `Dropout` of this file.

    Each gets a key of its own, from the seed and its name in the model: a layer that stands at two
    places becomes two.

    Arguments:
        model: changed in place.
        seed: of the keys.

    Returns:
        The model, or where it is itself an `nn.Dropout`, what it was exchanged for.

    Raises:
        UsageError: for dropout that cannot be exchanged: of whole channels, alpha dropout, and what
            attention and recurrent layers do within their own forward pass.

    Example:
        >>> reproducible(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1)), seed=0)
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
          (1): Dropout(p=0.1)
        )
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        _refuse_other_dropout(name, module)
        if type(module) is nn.Dropout:
            source = generator(seed, "dropout", name)
            key = int(torch.randint(_KEYS, (), generator=source))
            exchanged = Dropout(module.p, key).train(module.training)
            if not name:
                return exchanged
            model.set_submodule(name, exchanged)
    return model


def _refuse_other_dropout(name: str, module: nn.Module) -> None:
    """Raise for dropout that is random in PyTorch's own way and cannot be exchanged."""
    kind = type(module).__name__
    within = isinstance(module, (nn.MultiheadAttention, nn.RNNBase)) and module.dropout > 0
    if within:
        raise UsageError(
            f"{name or 'The model'} is a {kind} that drops by {module.dropout} within its own "
            "forward pass, where masks cannot be made reproducible: give it dropout=0 and put an "
            "nn.Dropout before or behind it."
        )
    if isinstance(module, _OTHER_DROPOUT) and module.p > 0:
        raise UsageError(
            f"{name or 'The model'} is a {kind}, whose masks cannot be made reproducible: use "
            "nn.Dropout, which can."
        )
