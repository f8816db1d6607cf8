"""Scaling that looks at no label: whole columns to mean 0 and standard deviation 1."""

import torch
from jaxtyping import Float
from torch import Tensor


def standardised(table: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The table with columns of mean 0 and standard deviation 1; constant columns become 0."""
    spread = table.std(0, correction=0)
    # The deviations of a constant column are 0 up to rounding, which must not be blown up.
    constant = table.amax(0) == table.amin(0)
    scaled = (table - table.mean(0)) / torch.where(constant, 1.0, spread)
    return torch.where(constant, 0.0, scaled)
