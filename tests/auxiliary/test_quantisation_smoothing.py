"""What a threshold loses: closed forms, simulation, limits; and Platt's calibration."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.calibration import _sigmoid_calibration

from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.auxiliary.quantisation_smoothing import calibrated, clipped, information_share
from mtlbook.book.data.worlds.thresholded import thresholded
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1, 0.05])
def test_one_cut_keeps_the_squared_density_over_the_variance_of_the_label(share):
    density = stats.norm.pdf(stats.norm.isf(share))
    assert information_share(share) == pytest.approx(density**2 / (share * (1 - share)), abs=1e-12)
    assert information_share(1 - share) == pytest.approx(information_share(share), abs=1e-12)
    assert information_share(0.5) == pytest.approx(2 / np.pi, abs=1e-12)


def test_more_cuts_keep_more_and_in_the_limit_all():
    grids = [np.arange(1, cuts + 1) / (cuts + 1) for cuts in (1, 3, 7, 15, 1023)]
    shares = [information_share(*grid) for grid in grids]
    assert all(np.diff(shares) > 0)
    assert 0.999 < shares[-1] < 1
    # A cut that nobody is above tells nothing new.
    assert information_share(0.3, 1e-12) == pytest.approx(information_share(0.3), abs=1e-9)
    assert information_share(0.1, 0.5) == information_share(0.5, 0.1)


def test_it_is_the_fisher_information_by_numerical_differentiation():
    cuts = stats.norm.isf([0.7, 0.4, 0.05])

    def chances(mean):
        return np.diff(np.concatenate([[0], stats.norm.cdf(cuts - mean), [1]]))

    slope = (chances(1e-6) - chances(-1e-6)) / 2e-6
    assert information_share(0.7, 0.4, 0.05) == pytest.approx(
        (slope**2 / chances(0)).sum(), abs=1e-9
    )


def test_it_is_the_ratio_of_the_variances_of_the_best_estimates():
    """Of the slope on a weak input: by least squares from z, by probit likelihood from labels."""
    share, rows, sets = 0.1, 2000, 300
    draws = np.random.default_rng(0)
    cut = stats.norm.isf(share)
    slopes = []
    for _ in range(sets):
        x, z = draws.standard_normal((2, rows))  # The true slope is 0.
        sign = np.where(z > cut, 1, -1)

        def loss(parameter, x=x, sign=sign):
            return -stats.norm.logcdf(sign * (parameter[0] * x + parameter[1] - cut)).sum()

        def gradient(parameter, x=x, sign=sign):
            score = parameter[0] * x + parameter[1] - cut
            ratio = np.exp(stats.norm.logpdf(score) - stats.norm.logcdf(sign * score)) * sign
            return -np.array([ratio @ x, ratio.sum()])

        fitted = optimize.minimize(loss, [0.0, 0.0], jac=gradient).x[0]
        slopes.append((np.polyfit(x, z, 1)[0], fitted))
    exact, from_labels = np.var(slopes, axis=0)
    assert exact / from_labels == pytest.approx(information_share(share), rel=0.2)


def test_informative_inputs_leave_a_threshold_less():
    shares = [information_share(0.1, explained=r) for r in (0.0, 0.3, 0.8, 0.99)]
    assert all(np.diff(shares) < 0)
    assert information_share(0.1, explained=1e-9) == pytest.approx(information_share(0.1), abs=1e-6)
    # Monte Carlo over inputs.
    mean = np.sqrt(0.8) * np.random.default_rng(1).standard_normal(400_000)
    place = (stats.norm.isf(0.1) - mean) / np.sqrt(0.2)
    kept = np.exp(2 * stats.norm.logpdf(place) - stats.norm.logcdf(place) - stats.norm.logsf(place))
    assert information_share(0.1, explained=0.8) == pytest.approx(kept.mean(), rel=0.01)


@pytest.mark.parametrize(
    ("prevalences", "explained", "message"),
    [
        ((), 0.0, "between 0 and 1"),
        ((0.0,), 0.0, "between 0 and 1"),
        ((float("nan"),), 0.0, "between 0 and 1"),
        ((0.3, 0.3), 0.0, "Two of the cuts are one"),
        ((0.3,), 1.0, "no information left"),
    ],
)
def test_impossible_cuts_are_refused(prevalences, explained, message):
    with pytest.raises(UsageError, match=message):
        information_share(*prevalences, explained=explained)


def test_calibration_is_platts():
    """By another implementation: scikit-learn's own, which is not public."""
    scores = standard_normal(generator(0, "scores"), 80, 1)
    labels = (scores + standard_normal(generator(0, "noise"), 80, 1) > 0.8).double()
    rule = calibrated(scores, labels)
    slope, intercept = _sigmoid_calibration(scores[:, 0].numpy(), labels[:, 0].numpy())
    assert rule.slope == pytest.approx(-slope, rel=1e-3)
    assert rule.intercept == pytest.approx(-intercept, rel=1e-3)
    assert torch.equal(rule(scores), rule.intercept + rule.slope * scores)


def test_calibration_does_not_see_shift_or_scale_of_the_score_and_stays_finite():
    scores = standard_normal(generator(1, "scores"), 50, 1)
    labels = (scores > 0.5).double()  # Parted: without softened targets the slope is infinite.
    rule = calibrated(scores, labels)
    assert 1 < rule.slope < 100
    other = calibrated(7 - 3 * scores, labels)
    torch.testing.assert_close(other(7 - 3 * scores), rule(scores), rtol=1e-3, atol=1e-3)


def test_a_regression_with_a_calibrated_threshold_is_the_true_chance():
    """The rival's promise: Φ((ẑ − τ) / σ) of a normal quantity, but for the logistic shape."""
    mean = standard_normal(generator(2, "mean"), 100_000, 1)
    z = mean + 0.5 * standard_normal(generator(2, "noise"), 100_000, 1)
    rule = calibrated(mean, (z > 1).double())
    truth = torch.special.ndtr((mean - 1) / 0.5)
    assert float((torch.sigmoid(rule(mean)) - truth).abs().max()) < 0.03


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([[0.0], [1.0]], [[1.0]], "2 scores for 1 labels"),
        ([[0.0], [float("nan")]], [[1.0], [0.0]], "NaN or infinite"),
        ([[0.0], [1.0]], [[2.0], [0.0]], "0 or 1"),
        ([[0.0], [1.0]], [[1.0], [1.0]], "both classes"),
        ([], [], "missing"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(scores, labels, message):
    shape = (-1, 1)
    with pytest.raises(UsageError, match=message):
        calibrated(torch.tensor(scores).reshape(shape), torch.tensor(labels).reshape(shape))


def test_clipping_is_in_robust_units_of_training_rows():
    training = standard_normal(generator(3, "z"), 20_000, 1)
    # Of a normal variable, mean and standard deviation; the outliers move neither.
    spoilt = torch.cat([5 + 2 * training, torch.full((100, 1), 1e9, dtype=torch.float64)])
    values = torch.tensor([[5.0], [7.0], [1e9], [-1e9]], dtype=torch.float64)
    found = clipped(values, spoilt, limit=4.0)
    torch.testing.assert_close(
        found, torch.tensor([[0.0], [1.0], [4.0], [-4.0]]).double(), atol=0.03, rtol=0
    )


def test_what_cannot_be_clipped_is_refused():
    column = torch.tensor([[0.0]] * 9 + [[1.0]])
    with pytest.raises(UsageError, match="all but quantised"):
        clipped(column, column)
    with pytest.raises(UsageError, match="above 0"):
        clipped(column, column, limit=0.0)


def test_behind_a_full_linear_trunk_the_quantity_changes_nothing():
    data = thresholded(0, rows=300, prevalence=0.1).data
    assert identity_gap(data, "label") < 1e-12
    assert identity_gap(data, "label", width=1) > 0.01
