"""Features of tasks: entropies, kurtosis, slopes and fits against oracles."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtlbook.auxiliary.task_features import (
    SHARES,
    count_kurtosis,
    curve_slopes,
    label_entropy,
    log_fit,
    pair_features,
    task_features,
)
from mtlbook.errors import UsageError

FALLING = 1 / np.arange(1.0, 21.0)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8))
def test_entropy_and_kurtosis_are_those_of_scipy(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert label_entropy(labels) == pytest.approx(stats.entropy(counts), abs=1e-12)
    if len(set(counts)) > 1:
        expected = stats.kurtosis(counts, fisher=False)
        assert count_kurtosis(labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_equal_counts_have_the_entropy_log_c_and_a_kurtosis_that_is_defined(classes):
    labels = list(range(classes)) * 7
    assert label_entropy(labels) == pytest.approx(np.log(classes), abs=1e-12)
    assert count_kurtosis(labels) == 1.0


@given(st.integers(1, 99), st.integers(1, 99))
def test_the_kurtosis_of_two_classes_says_nothing(few, many):
    assert count_kurtosis([0] * few + [1] * many) == pytest.approx(1.0)


def test_a_straight_curve_has_equal_slopes():
    slopes = curve_slopes(2 - 0.03 * np.arange(1, 21))
    assert np.ptp(slopes) < 1e-12
    assert slopes[0] == pytest.approx(-0.6)


def test_slopes_are_central_differences_of_the_points_at_the_shares():
    expected = [(FALLING[at + 1] - FALLING[at - 1]) * 10 for at in (1, 3, 5, 9, 13)]
    assert np.allclose(curve_slopes(FALLING), expected, atol=1e-12)
    assert len(expected) == len(SHARES)


def test_a_logarithmic_curve_is_fitted_exactly_and_its_scale_is_not_identified():
    steps = np.arange(1, 31)
    one, other = (4 - 0.7 * np.log(c * steps + d) for c, d in ((1.0, 10.0), (3.0, 30.0)))
    assert log_fit(one) == pytest.approx((-0.7, 10.0), rel=1e-9)
    assert log_fit(other) == pytest.approx(log_fit(one), rel=1e-9)


def test_pairs_have_the_features_of_both_tasks_and_their_own():
    tasks = task_features({"a": [0, 1], "b": [0, 0, 1]}, {"a": FALLING, "b": 2 * FALLING})
    own = pair_features(tasks, {"cosine": np.array([[1, 0.2], [0.3, 1]])})
    assert list(own.index) == [("a", "b"), ("b", "a")]
    assert own.loc[("b", "a"), "cosine"] == 0.3
    assert own.loc[("a", "b"), "main log labels"] == pytest.approx(np.log(2))
    assert own.loc[("a", "b"), "auxiliary log labels"] == pytest.approx(np.log(3))
    assert list(own.iloc[0, :10]) == list(own.iloc[1, 10:20])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_entropy([]), "no labels"),
        (lambda: count_kurtosis(np.array([0.5, 1.5])), "cut them into classes"),
        (lambda: curve_slopes([1.0] * 9), "at least ten"),
        (lambda: log_fit([1.0] * 10 + [float("nan")]), "finite"),
        (lambda: curve_slopes(FALLING, [1.0]), "between 0 and 1"),
        (lambda: task_features({"a": [0, 1]}, {"b": FALLING}), "differ"),
        (
            lambda: pair_features(pd.DataFrame({"x": [1.0, 2.0]}), {"c": np.zeros((3, 3))}),
            "there are 2 tasks",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(UsageError, match=message):
        call()
