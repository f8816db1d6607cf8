"""How often the book's intervals and verdicts are right: simulations with known true effects.

Effects are in units of δ, the smallest effect that matters. The standard deviation of the paired
differences is such that the interval of 16 seeds has a half width of about δ; with 64 seeds the
same differences have one of 0.47 δ.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from mtlbook.statistics import CONFIDENCE, Effect, verdict

PAGE_SEEDS = 16
SEEDS = (PAGE_SEEDS, 64)
EFFECTS = (0.0, 0.5, 0.99)
"""True effects for which *supported* overstates: none, half of what matters, and just below it."""

Draw = Callable[[np.random.Generator, tuple[int, int]], Float[np.ndarray, "draws seeds"]]


def _lognormal(spread: float, sign: int = 1) -> Draw:
    mean, factor = np.exp(spread**2 / 2), np.exp(spread**2)

    def draw(
        generator: np.random.Generator, shape: tuple[int, int]
    ) -> Float[np.ndarray, "draws seeds"]:
        values = generator.lognormal(0.0, spread, shape)
        return sign * (values / mean - 1) / np.sqrt(factor - 1)

    return draw


DIFFERENCES: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "heavy tails (t₃)": lambda generator, shape: generator.standard_t(3, shape) / np.sqrt(3),
    "skewed (lognormal, σ = 0.5)": _lognormal(0.5),
    "very skewed (lognormal, σ = 1)": _lognormal(1.0),
    "skewed the other way (σ = 0.5)": _lognormal(0.5, -1),
    "very skewed the other way (σ = 1)": _lognormal(1.0, -1),
}
"""How paired differences may be distributed, each with mean 0 and variance 1."""


def coverage(seeds: Sequence[int] = SEEDS, *, draws: int = 20_000) -> pd.DataFrame:
    """The share of experiments whose 95 % interval holds the true effect.

    Arguments:
        seeds: of an experiment.
        draws: experiments a cell; a share's standard error is at most 0.5 / √draws.

    Returns:
        A row for each distribution of the differences, a column for each number of seeds. Which
        way a distribution is skewed makes no difference here.
    """
    names = [name for name in DIFFERENCES if "other way" not in name]
    shares = {f"{count} seeds": [_covered(name, count, draws) for name in names] for count in seeds}
    return pd.DataFrame(shares, index=pd.Index(names, name="differences"))


def verdicts(
    effects: Sequence[float] = EFFECTS,
    seeds: Sequence[int] = SEEDS,
    *,
    half_width: float = 1.0,
    draws: int = 10_000,
) -> pd.DataFrame:
    """The share of experiments that gets each verdict.

    Arguments:
        effects: the true ones, in units of δ.
        seeds: of an experiment.
        half_width: of the interval of 16 seeds, in units of δ. Above 1 the page is too imprecise
            for its δ: then it is the interval alone that keeps *supported* from being said.
        draws: experiments a cell.

    Returns:
        A tidy table: differences, seeds, effect, verdict and share, without verdicts that are
        never given. Of a true effect of 0 *supported* is false in any reading; of one below δ it
        says that the effect matters, which it does not quite.
    """
    rows = []
    for name in DIFFERENCES:
        for count in seeds:
            mean, half = (half_width * one for one in _intervals(name, count, draws))
            for true in effects:
                given = pd.Series(
                    [_verdict(m + true, h, count) for m, h in zip(mean, half, strict=True)]
                )
                for key, share in given.value_counts(normalize=True, sort=False).items():
                    rows.append((name, count, true, key, share))
    return pd.DataFrame(rows, columns=["differences", "seeds", "effect", "verdict", "share"])


def supported(table: pd.DataFrame) -> pd.DataFrame:
    """How often an effect comes out as *supported*, from a table of :func:`verdicts`.

    Returns:
        A row for each distribution of the differences, a column for each number of seeds and true
        effect.
    """
    given = table.assign(share=table["share"].where(table["verdict"] == "supported", 0.0))
    shares = given.pivot_table(
        "share", "differences", ["seeds", "effect"], aggfunc="sum", sort=False
    )
    shares.columns = [f"{count} seeds, {_in_deltas(true)}" for count, true in shares.columns]
    return shares


def _in_deltas(effect: float) -> str:
    return f"{effect:g} δ" if effect else "0"


def _covered(name: str, seeds: int, draws: int) -> float:
    mean, half = _intervals(name, seeds, draws)
    return float((np.abs(mean) <= half).mean())


def _intervals(
    name: str, seeds: int, draws: int
) -> tuple[Float[np.ndarray, "draws"], Float[np.ndarray, "draws"]]:
    """The centres and half widths of many t intervals around a true effect of 0."""
    generator = np.random.default_rng([seeds, *name.encode()])
    values = DIFFERENCES[name](generator, (draws, seeds)) / _half_width(1.0, PAGE_SEEDS)
    return values.mean(axis=1), _half_width(values.std(axis=1, ddof=1), seeds)


def _half_width(deviation: Any, seeds: int) -> Any:
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1))
    return deviation * (quantile / seeds**0.5)


def _verdict(estimate: float, half: float, seeds: int) -> str:
    low, high = estimate - half, estimate + half
    return verdict(Effect(estimate, low, high, p=0.0, seeds=seeds), smallest=1.0)
