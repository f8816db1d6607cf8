"""Columns: modules of parallel networks at one depth, computed in one batched program."""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from mtlbook.errors import UsageError

Features = Float[Tensor, "columns examples ..."]

# They treat each number alone, so that an axis more in front changes nothing.
_ELEMENTWISE = (nn.Identity, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.ELU, nn.LeakyReLU, nn.SiLU)

# From so many columns on, linear layers leave their outputs in memory as (columns, channels,
# examples): for four and more, but not for two, what mixes the columns of each channel is then
# faster (measured with 64 and 128 channels).
EXAMPLES_LAST = 4


class Columns(nn.Module):
    """A module for each of K columns, applied to that column's own features.

    Modules of the same layers and shapes keep their parameters stacked, columns first, and are
    computed together: a linear layer is one batched matrix product, and there are as few
    parameters for the optimiser as one column has. Modules that differ, and modules with buffers
    such as running statistics (which change in place), are computed one after another.

    PyTorch's convolution of several columns at once (`groups`) takes one column after another on a
    CPU and copies them apart and together, so that here a convolution, too, is computed column by
    column.

    Arguments:
        modules: one a column; they share no parameter.

    Raises:
        UsageError: for modules that share a parameter.

    Example:
        >>> columns = Columns([nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 4)])
        >>> {name: tuple(p.shape) for name, p in columns.named_parameters()}
        {'stacked.weight': (3, 4, 8), 'stacked.bias': (3, 4)}
        >>> tuple(columns(torch.ones(3, 5, 8)).shape)
        (3, 5, 4)
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        owned = [id(p) for module in modules for p in module.parameters()]
        if len(set(owned)) < len(owned):
            raise UsageError("The columns share parameters: make new layers for each column.")
        if _agree(modules):
            self.stacked = _stack(modules)
        else:
            self.apart = nn.ModuleList(modules)

    def forward(self, features: Features) -> Features:
        """Each column's module applied to its own features."""
        if hasattr(self, "stacked"):
            return _together(self.stacked, features)
        computed = [module(own) for module, own in zip(self.apart, features, strict=True)]
        if len({own.shape for own in computed}) > 1:
            raise UsageError(
                "The columns compute features of different shapes, "
                f"{[tuple(own.shape[1:]) for own in computed]}: give them layers with equal "
                "outputs."
            )
        return torch.stack(computed)

    def column(self, number: int) -> nn.Module:
        """A copy of one column's module as it is now, with parameters of its own."""
        if not hasattr(self, "stacked"):
            return deepcopy(self.apart[number])
        module = deepcopy(self.stacked)
        for parameter in module.parameters():
            parameter.data = parameter.data[number].clone()
        return module

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Give one column the parameters and buffers of a trained module (its `state_dict`).

        Raises:
            UsageError: for a state with other names or shapes.
        """
        own = self.column(number)
        try:
            own.load_state_dict(state)
        except RuntimeError as error:
            raise UsageError(f"The weights do not fit the column: {error}") from error
        if not hasattr(self, "stacked"):
            self.apart[number].load_state_dict(state)
            return
        with torch.no_grad():
            loaded = dict(own.named_parameters())
            for name, values in self.stacked.named_parameters():
                values[number].copy_(loaded[name])


def _agree(modules: Sequence[nn.Module]) -> bool:
    """Whether the modules are of the same layers and shapes, and without buffers."""
    looks = [
        (repr(module), [(name, p.shape, p.requires_grad) for name, p in module.named_parameters()])
        for module in modules
    ]
    buffers = any(True for module in modules for _ in module.buffers())
    return not buffers and all(look == looks[0] for look in looks)


def _stack(modules: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first module with the parameters of all, stacked."""
    stacked = deepcopy(modules[0])
    for name, parameter in stacked.named_parameters():
        own = [module.get_parameter(name).detach() for module in modules]
        parameter.data = torch.stack(own)
    return stacked


def _together(module: nn.Module, features: Features) -> Features:
    """All columns' features under one module with stacked parameters."""
    kind = type(module)
    if isinstance(module, nn.Sequential) and kind is nn.Sequential:
        for layer in module:
            features = _together(layer, features)
        return features
    if isinstance(module, _ELEMENTWISE) and kind in _ELEMENTWISE:
        return module(features)
    if isinstance(module, nn.Linear) and kind is nn.Linear:
        return _linear(module, features)
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d and module.padding_mode == "zeros":
        return _convolution(module, features)

    def alone(parameters: dict[str, Tensor], own: Tensor) -> Tensor:
        return functional_call(module, parameters, (own,))

    return vmap(alone, randomness="different")(dict(module.named_parameters()), features)


def _linear(layer: nn.Linear, features: Features) -> Features:
    flat = features if features.ndim == 3 else features.flatten(1, -2)
    if len(features) >= EXAMPLES_LAST:
        product = _product(layer.weight, flat.mT, layer.bias, 2).mT
    else:
        product = _product(flat, layer.weight.mT, layer.bias, 1)
    return product if features.ndim == 3 else product.unflatten(1, features.shape[1:-1])


def _product(first: Tensor, second: Tensor, bias: Tensor | None, axis: int) -> Tensor:
    """A matrix product for each column, plus a bias that is the same along an axis."""
    if bias is None:
        return torch.bmm(first, second)
    return torch.baddbmm(bias.unsqueeze(axis), first, second)


def _convolution(layer: nn.Conv2d, features: Features) -> Features:
    biases = [None] * len(features) if layer.bias is None else layer.bias
    return torch.stack(
        [
            F.conv2d(own, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            for own, weight, bias in zip(features, layer.weight, biases, strict=True)
        ]
    )
