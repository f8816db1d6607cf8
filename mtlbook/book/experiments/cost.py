"""What a network costs: trainable parameters, and the arithmetic of training, counted not timed."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """How many trainable parameters a network has.

    Example:
        >>> parameters(nn.Linear(3, 2))
        8
    """
    return sum(values.numel() for values in model.parameters() if values.requires_grad)


def training_flops(
    model: nn.Module, inputs: Float[Tensor, "examples ..."] | Mapping[str, Tensor]
) -> float:
    """Floating-point operations of one training example: forward and backward through all heads.

    Matrix products and convolutions count, a multiply–accumulate as two; what is elementwise
    doesn't. The inputs need no gradient.

    Example:
        >>> from mtlbook.sharing.hard import HardSharing
        >>> heads = {"a": nn.Linear(4, 1)}
        >>> model = HardSharing(lambda: [nn.Linear(3, 4), nn.Tanh()], heads).double()
        >>> training_flops(model, torch.ones(10, 3, dtype=torch.float64))  # 4·12 + 6·4
        72.0
    """
    rows = len(inputs) if isinstance(inputs, Tensor) else len(next(iter(inputs.values())))
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        # A sum's gradient is 1 everywhere: the losses' own arithmetic is elementwise.
        torch.stack([own.sum() for own in model(inputs).values()]).sum().backward()
    model.zero_grad()
    return counter.get_total_flops() / rows


def cost(
    model: nn.Module, inputs: Float[Tensor, "examples ..."] | Mapping[str, Tensor]
) -> dict[str, Any]:
    """The cost columns of a page's table, of one network on some inputs."""
    return {
        "parameters": parameters(model),
        "training FLOPs an example": training_flops(model, inputs),
    }
