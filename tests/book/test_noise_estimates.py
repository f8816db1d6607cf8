"""The noise of several tasks as section 6.6 estimates it."""

import numpy as np
import pytest

from mtlbook.book.experiments.noise_estimates import NoiseEstimates, noise_estimates
from mtlbook.book.experiments.without_page import WithoutPage

PAGE = WithoutPage("6.6", range(2), "cpu")


def test_the_distance_is_the_mean_absolute_logarithm_of_the_ratio():
    found = NoiseEstimates(
        np.array([1.0, 4.0]), np.array([[np.e, 4.0]]), np.array([[1 / np.e, 4 * np.e]])
    )
    assert {name: own.tolist() for name, own in found.distances.items()} == {
        "learnt variances": [pytest.approx(0.5)],
        "residuals, equal weights": [pytest.approx(1.0)],
    }


def test_with_enough_examples_both_estimates_come_near_the_truth():
    found = noise_estimates(PAGE, levels=[0.5, 2.0], examples=600)
    np.testing.assert_allclose(found.true, [0.25, 4.0])
    for estimate in (found.learnt, found.residuals):
        assert estimate.shape == (2, 2)
        np.testing.assert_allclose(np.log(estimate / found.true), 0, atol=0.4)
