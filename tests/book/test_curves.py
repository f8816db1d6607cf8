"""Readings of learning curves against power laws, exact curves and a library's line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlbook.book.experiments.curves import effective_sample_size, floor_and_slope
from mtlbook.errors import UsageError

SIZES = [50, 100, 200, 400]


@given(
    exponent=st.floats(0.2, 2.0),
    scale=st.floats(0.01, 100.0),
    size=st.floats(50.0, 400.0),
)
def test_a_power_law_is_read_exactly(exponent, scale, size):
    curve = scale * np.array(SIZES, dtype=np.float64) ** -exponent
    found = effective_sample_size(scale * size**-exponent, SIZES, curve)
    assert found == pytest.approx(size, rel=1e-6)


def test_nothing_is_made_up_outside_of_the_curve():
    curve = np.array([0.8, 0.4, 0.2, 0.1])
    assert effective_sample_size(0.9, SIZES, curve) == 50
    assert effective_sample_size(0.05, SIZES, curve) == 400


def test_a_rising_piece_of_the_curve_is_levelled():
    curve = np.array([0.8, 0.2, 0.2 * 4, 0.1])  # the geometric mean of the middle ones is 0.4
    assert effective_sample_size(0.4, SIZES, curve) == pytest.approx(100)
    assert effective_sample_size(0.2, SIZES, curve) == pytest.approx(200 * 2**0.5)


@pytest.mark.parametrize(
    ("error", "sizes", "message"),
    [(0.0, SIZES, "above 0"), (0.1, SIZES[::-1], "ascend"), (0.1, SIZES[:3], "one for each")],
)
def test_curves_that_cannot_be_read_are_refused(error, sizes, message):
    with pytest.raises(UsageError, match=message):
        effective_sample_size(error, sizes, np.array([0.8, 0.4, 0.2, 0.1]))


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_the_constants_of_an_exact_curve_are_found(a, b):
    tasks = [1, 2, 4, 8, 16]
    errors = np.array([[a + b / K, 2 * a - b / K] for K in tasks])
    floor, slope = floor_and_slope(tasks, errors)
    np.testing.assert_allclose(floor, [a, 2 * a], atol=1e-9)
    np.testing.assert_allclose(slope, [b, -b], atol=1e-9)


def test_the_mean_of_the_constants_is_that_of_the_mean_curve():
    tasks, errors = (
        [1, 2, 4, 8],
        np.random.default_rng(0).uniform(size=(4, 6)),
    )
    floor, slope = floor_and_slope(tasks, errors)
    expected = np.polyfit(1 / np.array(tasks), errors.mean(1), 1)
    np.testing.assert_allclose([slope.mean(), floor.mean()], expected)


@pytest.mark.parametrize("tasks", [[4], [2, 2], [0, 1]])
def test_a_line_needs_two_counts(tasks):
    with pytest.raises(UsageError, match="two different K"):
        floor_and_slope(tasks, np.ones((len(tasks), 2)))
