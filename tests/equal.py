"""Comparisons of numbers that several tests share."""

import torch
from torch import Tensor


def exactly(actual: Tensor | None, expected: Tensor | None) -> None:
    """Both are there, and equal to 1e-12: the same sums, perhaps in another order."""
    assert actual is not None
    assert expected is not None
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
