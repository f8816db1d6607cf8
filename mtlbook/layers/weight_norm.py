"""Weight normalisation that vectorises over replicas."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm


class WeightNorm(nn.Module):
    """The parametrisation W = g v / ‖v‖ (Salimans and Kingma, 2016, equation 2), in plain steps.

    What `torch.nn.utils.parametrizations.weight_norm` computes by one fused operation, for which
    `torch.vmap` has no rule.

    Arguments:
        dim: the axis along which each slice has a norm of its own; None, or -1 as PyTorch writes
            it, for one norm of all.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(
        self, weight_g: Float[Tensor, "..."], weight_v: Float[Tensor, "..."]
    ) -> Float[Tensor, "..."]:
        """The weight, from its length and its direction."""
        axes = [axis for axis in range(weight_v.ndim) if axis != self.dim]
        length = torch.linalg.vector_norm(weight_v, dim=axes, keepdim=True)
        return weight_v * (weight_g / length)


def plain_weight_norm(model: nn.Module) -> nn.Module:
    """Exchange every weight normalisation of a model for the one of this file, in place.

    Its parameters and the names in the state dict stay as they are.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        >>> before = layer.weight.detach()
        >>> torch.allclose(plain_weight_norm(layer).weight, before)
        True
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, _WeightNorm):
            model.set_submodule(name, WeightNorm(module.dim))
    return model
