"""Results over seeds as tidy frames, and as tables for people with their 95 % intervals."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from mtlbook.statistics import Effect, interval

OverSeeds = Float[np.ndarray, "seeds"]


def tidy(
    values: Mapping[Any, Any],
    *keys: str,
    value: str = "value",
    of: Callable[[Any], Any] | None = None,
    seeds: Sequence[int] | None = None,
) -> pd.DataFrame:
    """A tidy frame: a row for each key and seed.

    Arguments:
        values: by key the values over the seeds, or a mapping from column names to them. Where
            there are several names of keys, the key is a tuple, or the mapping is nested.
        *keys: the columns of the key.
        value: the column of the values, where they are not named.
        of: what makes the values over the seeds of an entry, such as `mean_error` of a training.
        seeds: adds a column `seed`.

    Example:
        >>> error = {"shared": {32: np.array([0.1, 0.2])}, "alone": {32: np.array([0.4, 0.3])}}
        >>> tidy(error, "network", "labels", value="error")
          network  labels  error
        0  shared      32    0.1
        1  shared      32    0.2
        2   alone      32    0.4
        3   alone      32    0.3
    """
    parts = []
    for key, entry in _flat(values, len(keys)):
        own = entry if of is None else of(entry)
        columns = own if isinstance(own, Mapping) else {value: own}
        columns = {name: np.atleast_1d(np.asarray(each)) for name, each in columns.items()}
        about = dict(zip(keys, key, strict=True))
        if seeds is not None:
            about["seed"] = list(seeds)
        rows = len(next(iter(columns.values())))
        parts.append(pd.DataFrame(about | columns, index=range(rows)))
    return pd.concat(parts, ignore_index=True)


def estimate(values: Effect | OverSeeds | pd.Series, name: str = "estimate") -> dict[str, float]:
    """The columns of an effect, or of the mean of values over seeds: itself, low and high.

    Example:
        >>> estimate(np.array([0.5, 0.5]), "gap")
        {'gap': 0.5, 'low': 0.5, 'high': 0.5}
    """
    if isinstance(values, Effect):
        return {name: values.estimate, "low": values.low, "high": values.high}
    array = np.asarray(values, dtype=np.float64)
    low, high = interval(array)
    return {name: float(array.mean()), "low": low, "high": high}


def contrasts(effects: Mapping[Any, Effect | OverSeeds], *keys: str) -> pd.DataFrame:
    """A row for each effect (or values over seeds): key, estimate (the mean), low and high.

    Arguments:
        effects: by key, as for `tidy`.
        *keys: the columns of the key.
    """
    return _frame(effects, keys, estimate)


def means(values: Mapping[Any, OverSeeds], *keys: str) -> pd.DataFrame:
    """A row for each key: its columns, then the mean of the values over seeds, low and high.

    Example:
        >>> means({"shared": np.array([0.5, 0.5])}, "network")
          network  mean  low  high
        0  shared   0.5  0.5   0.5
    """
    return _frame(values, keys, partial(estimate, name="mean"))


def text_table(
    rows: Mapping[Any, Mapping[str, Any]], *keys: str, styles: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A table for people: effects and values over seeds become text with intervals.

    Arguments:
        rows: by key, as for `tidy`, the cells of a row by column: an `Effect`, values over seeds,
            or anything else, which is left as it is.
        *keys: the columns of the key.
        styles: by column the format of its numbers, by default that of `with_interval`.

    Example:
        >>> rows = {"alone": {"error": np.array([0.5, 0.5]), "trials": 4}}
        >>> text_table(rows, "network")
          network                 error  trials
        0   alone  0.500 [0.500, 0.500]       4
    """

    def shown(column: str, own: Any) -> Any:
        wide = isinstance(own, Effect | np.ndarray)
        return with_interval(own, (styles or {}).get(column)) if wide else own

    def cells(row: Mapping[str, Any]) -> dict[str, Any]:
        return {column: shown(column, own) for column, own in row.items()}

    return _frame(rows, keys, cells)


def with_interval(
    values: Effect | OverSeeds | pd.Series, style: str | None = None, unit: str = ""
) -> str:
    """An effect, or the mean of values over seeds, with its 95 % interval.

    Arguments:
        values: what is written.
        style: the format of the three numbers; by default `+.1f` for an effect, else `.3f`.
        unit: what stands behind the first.

    Example:
        >>> with_interval(Effect(12.34, 4.5, 20.1, 0.01, 16), unit="%")
        '+12.3 % [+4.5, +20.1]'
    """
    chosen = style or ("+.1f" if isinstance(values, Effect) else ".3f")
    middle, low, high = (format(number, chosen) for number in estimate(values).values())
    return f"{middle} {unit}".rstrip() + f" [{low}, {high}]"


def standing(effect: Effect | OverSeeds) -> str:
    """Whether an effect is better, worse, the same, or undecided, by its interval."""
    _, low, high = estimate(effect).values()
    if low == high == 0:
        return "the same"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _frame(
    rows: Mapping[Any, Any], keys: Sequence[str], columns: Callable[[Any], Mapping[str, Any]]
) -> pd.DataFrame:
    """A row for each key: its own columns, then those made of its entry."""
    return pd.DataFrame(
        [
            dict(zip(keys, key, strict=True)) | dict(columns(entry))
            for key, entry in _flat(rows, len(keys))
        ]
    )


def _flat(nested: Mapping[Any, Any], depth: int) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The entries of a mapping with their keys; mappings inside it belong to keys of that depth."""
    for key, entry in nested.items():
        own = key if isinstance(key, tuple) else (key,)
        if len(own) < depth and isinstance(entry, Mapping):
            for inner, value in _flat(entry, depth - len(own)):
                yield own + inner, value
        else:
            yield own, entry
