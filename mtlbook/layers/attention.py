"""Self-attention that `torch.func.vmap` can vectorise: plain products and a softmax."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.errors import UsageError


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017, §3.2).

    [A_1 V_1, …, A_H V_H] W_o with A_h = softmax(Q_h K_hᵀ / √d), where Q_h, K_h and V_h are linear
    in the inputs and d is the width over the heads. Its parameters are those of
    `nn.MultiheadAttention`, by name and shape.

    Arguments:
        width: features of each position.
        heads: H, a divisor of the width.

    Raises:
        UsageError: where the heads do not divide the width.

    Example:
        >>> attention = SelfAttention(8, heads=2)
        >>> attention(torch.ones(2, 7, 8)).shape
        torch.Size([2, 7, 8])
        >>> attention.load_state_dict(nn.MultiheadAttention(8, 2).state_dict())
        <All keys matched successfully>
    """

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        if width < 1 or heads < 1 or width % heads:
            raise UsageError(
                f"{heads} heads do not divide a width of {width}: choose a divisor of the width."
            )
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, as `nn.MultiheadAttention` does."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        self.out_proj.reset_parameters()
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        sequence: Float[Tensor, "examples length width"],
        mask: Bool[Tensor, "examples length"] | None = None,
    ) -> Float[Tensor, "examples length width"]:
        """What each position takes from the positions of the mask, 0 outside the mask."""
        projected = F.linear(sequence, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)) for part in projected.chunk(3, dim=-1)
        )
        scores = torch.einsum("eqhd,ekhd->ehqk", query, key) * query.shape[-1] ** -0.5
        if mask is not None:
            # Not −∞: an example of padding alone would be NaN.
            scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        taken = torch.einsum("ehqk,ekhd->eqhd", scores.softmax(-1), value)
        mixed = self.out_proj(taken.flatten(2))
        return mixed if mask is None else mixed * mask.unsqueeze(-1)
