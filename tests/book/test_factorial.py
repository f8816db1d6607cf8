"""The factorial design against the full factorial."""

from itertools import combinations, product

import numpy as np
import pytest

from mtlbook.book.experiments.factorial import contrast, effect, half_fraction
from mtlbook.errors import UsageError

FACTORS = ["a", "b", "c", "d", "e"]


def test_half_of_all_combinations_with_everything_balanced():
    runs = half_fraction(FACTORS)
    assert len(runs) == 16
    assert all(runs[-1].values())
    columns = [contrast(runs, *chosen) for size in (1, 2) for chosen in combinations(FACTORS, size)]
    # Effects and interactions of two are at right angles to each other and to the mean.
    gramian = np.stack(columns) @ np.stack(columns).T
    assert np.array_equal(gramian, 16 * np.eye(15))
    assert all(column.sum() == 0 for column in columns)


def test_effects_are_those_of_the_full_factorial():
    """Where nothing interacts but two at a time, half of the runs tell as much as all."""
    draws = np.random.default_rng(0)
    size = {chosen: draws.normal() for n in (1, 2) for chosen in combinations(FACTORS, n)}

    def response(run: dict[str, bool]) -> float:
        return 3 + sum(
            value / 2 * np.prod([1 if run[f] else -1 for f in chosen])
            for chosen, value in size.items()
        )

    half = half_fraction(FACTORS)
    full = [dict(zip(FACTORS, levels, strict=True)) for levels in product([False, True], repeat=5)]
    for runs in (half, full):
        values = np.array([[response(run), -response(run)] for run in runs])
        for chosen, value in size.items():
            np.testing.assert_allclose(effect(runs, values, *chosen), [value, -value], atol=1e-12)


def test_an_unknown_factor_is_refused():
    with pytest.raises(UsageError, match=r"no effect of \['f'\]: the factors are \['a', 'b'\]"):
        contrast(half_fraction(["a", "b"]), "f")
