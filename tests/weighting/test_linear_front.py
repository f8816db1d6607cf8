"""The front of three linear tasks with one unit: what weights reach, and what they cannot."""

import numpy as np
import pytest
import torch

from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.weighting.linear_front import (
    leaves_a_gap,
    reached_by_weights,
    sphere,
    undominated,
    unexplained,
    unit_fits,
    weights_of_three,
)


def data(seed, correlation=None):
    x = standard_normal(generator(seed, "x"), 60, 5)
    y = x @ standard_normal(generator(seed, "w"), 5, 3)
    return x, y + standard_normal(generator(seed, "noise"), 60, 3)


def test_the_unexplained_share_is_that_of_a_trained_unit():
    x, y = data(0)
    fits = unit_fits(x, y)
    design = x - x.mean(0)
    own = design @ torch.linalg.lstsq(design, y).solution
    # The unit whose outputs are the first two fits' mixture, and each head by least squares.
    unit = 0.3 * own[:, 0] / own[:, 0].norm() + 0.7 * own[:, 1] / own[:, 1].norm()
    direction = 0.3 * fits[0] + 0.7 * fits[1]
    heads = (unit @ own) / (unit @ unit)
    left = (own - unit[:, None] * heads).square().sum(0) / own.square().sum(0)
    torch.testing.assert_close(unexplained(direction, fits), left, rtol=0, atol=1e-12)


def test_fixed_weights_lead_to_the_least_weighted_sum():
    fits = unit_fits(*data(1))
    everywhere = unexplained(sphere(20_000), fits)
    for weights in weights_of_three(10):
        best = weights @ unexplained(reached_by_weights(fits, weights), fits)
        assert float(best) <= float((everywhere @ weights).min()) + 1e-12
        assert float(best) == pytest.approx(float((everywhere @ weights).min()), abs=1e-3)


def widest_gap(fits, points=1500):
    """How far the front is from what weights reach, at most; grids are coarser than 0.12."""
    found = unexplained(sphere(points), fits)
    reached = unexplained(reached_by_weights(fits, weights_of_three(points)), fits)
    return float((found[undominated(found)][:, None] - reached).abs().amax(-1).amin(1).max())


def test_without_a_positive_product_there_is_no_gap():
    found = {True: [], False: []}
    for seed in range(40):
        fits = unit_fits(*data(seed))
        found[leaves_a_gap(fits)].append(widest_gap(fits))
    assert len(found[False]) > 3
    assert max(found[False]) < 0.12
    assert np.median(found[True]) > 0.15  # a gap may be narrow


@pytest.mark.parametrize("correlation", [-0.4, -0.2, -0.1, 0.1, 0.3, 0.6])
def test_tasks_that_are_correlated_alike_leave_a_gap_below_zero(correlation):
    wanted = torch.full((3, 3), correlation, dtype=torch.float64).fill_diagonal_(1)
    values, vectors = torch.linalg.eigh(wanted)
    fits = vectors * values.sqrt()
    assert leaves_a_gap(fits) == (correlation < 0)
    assert (widest_gap(fits) > 0.25) == (correlation < 0)


def test_a_target_may_change_its_sign():
    x, y = data(3)
    flipped = y * torch.tensor([1.0, -1.0, 1.0])
    assert leaves_a_gap(unit_fits(x, y)) == leaves_a_gap(unit_fits(x, flipped))


def test_dominated_points_are_those_that_another_one_beats():
    points = torch.tensor(np.random.default_rng(0).uniform(size=(200, 3)).round(1))
    expected = [not any(bool((q <= p).all() and (q < p).any()) for q in points) for p in points]
    assert undominated(points).tolist() == expected


def test_dependent_tasks_are_refused():
    x, y = data(4)
    with pytest.raises(UsageError, match="do not span as many directions"):
        unit_fits(x, torch.stack([y[:, 0], y[:, 1], y[:, 0] - 2 * y[:, 1]], dim=1))
