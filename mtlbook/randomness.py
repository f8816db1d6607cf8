"""Randomness that is the same on every machine: CPU generators, one per (seed, purpose)."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose of one seed, independent of every other.

    The state is the SHA-256 of `(seed, *purpose)`, so that no draw depends on how many draws
    another purpose made, on the order of calls, or on the device that the numbers move to.

    Example:
        >>> a = torch.rand(1, generator=generator(0, "split"))
        >>> b = torch.rand(1, generator=generator(0, "split"))
        >>> bool(a == b)
        True
    """
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    # 63 bits: the largest seed that every torch backend accepts.
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def standard_normal(source: torch.Generator, *shape: int) -> Float[Tensor, "..."]:
    """Standard normal numbers in float64, of which fewer rows are the first rows of more.

    `torch.randn` fills whole blocks and draws the last one anew, so that a shorter draw is not
    the beginning of a longer one; uniform numbers come one after another.

    Example:
        >>> few, many = (standard_normal(generator(0, "inputs"), rows, 3) for rows in (7, 20))
        >>> torch.equal(few, many[:7])
        True
    """
    uniform = torch.rand(*shape, generator=source, dtype=torch.float64)
    # 0 is possible and would become minus infinity.
    return torch.special.ndtri(uniform.clamp(min=2.0**-54))
