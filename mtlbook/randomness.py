"""Randomness that is the same on every machine: CPU generators, one per (seed, purpose)."""

import hashlib

import torch


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
