"""A factorial experiment of factors that are on or off: half of all runs, and what they say."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float, Int

from mtlbook.errors import UsageError


def half_fraction(factors: Sequence[str]) -> list[dict[str, bool]]:
    r"""Half of all on-off combinations of the factors, the one in which all are on among them.

    The combinations in which the number of factors that are off is even. For five factors this is
    the design of resolution V (Box and Hunter, 1961): no effect of one factor, nor any interaction
    of two, is mixed up with another one of these, only with interactions of three and more.

    Example:
        >>> [sum(run.values()) for run in half_fraction(["a", "b", "c"])]
        [1, 1, 1, 3]
    """
    return [
        dict(zip(factors, levels, strict=True))
        for levels in product([False, True], repeat=len(factors))
        if levels.count(False) % 2 == 0
    ]


def effect(
    runs: Sequence[Mapping[str, bool]],
    values: Float[np.ndarray, "runs seeds"],
    *factors: str,
) -> Float[np.ndarray, " seeds"]:
    r"""The effect of a factor, or the interaction of several, for each seed.

    The mean of the runs whose contrast is +1 minus that of the runs with −1, where the contrast of
    a factor is +1 where it is on and −1 where it is off, and that of several their product.

    Example:
        >>> runs = half_fraction(["a", "b", "c"])
        >>> gain = np.array([[10.0 * run["a"]] for run in runs])
        >>> effect(runs, gain, "a"), effect(runs, gain, "b")
        (array([10.]), array([0.]))
    """
    signs = contrast(runs, *factors)
    return values[signs > 0].mean(0) - values[signs < 0].mean(0)


def contrast(runs: Sequence[Mapping[str, bool]], *factors: str) -> Int[np.ndarray, " runs"]:
    """+1 or −1 for each run: the product of the factors' levels.

    Raises:
        UsageError: for a factor that the runs do not have.
    """
    unknown = set(factors) - set(runs[0])
    if unknown or not factors:
        raise UsageError(
            f"There is no effect of {sorted(unknown)}: the factors are {sorted(runs[0])}."
        )
    return np.array([np.prod([1 if run[factor] else -1 for factor in factors]) for run in runs])
