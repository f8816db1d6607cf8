"""Caruana's Table 6, its noise and its shift."""

import numpy as np
import pytest
import torch

from mtlbook.book.data.worlds.caruana_table_6 import (
    BITS,
    SPREAD,
    caruana_table_6,
    coded,
    noisy_features,
)
from mtlbook.errors import UsageError


def decoded(bits: torch.Tensor) -> torch.Tensor:
    """The middle of the interval that a code names, one bit after the other."""
    low, size = torch.full((len(bits),), -5.0, dtype=torch.float64), 10.0
    for bit in bits.T:
        size /= 2
        low = low + bit * size
    return low + size / 2


def test_target_and_feature_are_functions_of_the_codes():
    data = caruana_table_6(0, rows=200).data
    a, b = decoded(data.inputs[:, :10]), decoded(data.inputs[:, 10:20])
    torch.testing.assert_close(data.targets["f1"][:, 0], torch.sigmoid(a + b), rtol=0, atol=1e-12)
    torch.testing.assert_close(data.inputs[:, 20], torch.sigmoid(a - b), rtol=0, atol=1e-12)


def test_the_covariance_of_target_and_feature_is_zero():
    """Over all pairs of codes, and not only in the mean: (A, B) → (−B, −A)."""
    grid = decoded(torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * BITS).double())
    exactly_mirrored = grid + grid.flip(0)
    assert float(exactly_mirrored.abs().max()) == 0
    a, b = grid[:, None], grid[None, :]
    f1, f2 = torch.sigmoid(a + b), torch.sigmoid(a - b)
    covariance = float(((f1 - f1.mean()) * (f2 - f2.mean())).mean())
    assert abs(covariance) < 1e-15
    assert float(f1.var()) > 0.1


def test_codes_are_equally_likely_and_the_largest_bit_comes_first():
    inputs = noisy_features(0, rows=4000, noise=1.0).data.inputs[:, :20]
    assert float((inputs.mean(0) - 0.5).abs().max()) < 0.04
    assert coded(torch.tensor([0.01])).tolist() == [[1.0] + [0.0] * 8 + [1.0]]
    assert coded(torch.tensor([-0.001])).tolist() == [[0.0] + [1.0] * 9]


def test_labels_have_the_probability_of_the_sum():
    made = noisy_features(0, rows=20_000, noise=0.0)
    p, label = made.noiseless["label"], made.data.targets["label"]
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (p >= low) & (p < low + 0.25)
        assert abs(float((label - p)[inside].mean())) < 0.02
    oracle = torch.nn.functional.binary_cross_entropy(p, label)
    assert abs(float(oracle) - made.least_loss["label"]) < 0.01


@pytest.mark.parametrize("noise", [0.0, 0.5, 3.0])
def test_noise_is_in_units_of_the_feature(noise):
    made = noisy_features(1, rows=4000, noise=noise, copies=2).data.inputs
    a, b = decoded(made[:, :10]), decoded(made[:, 10:20])
    assert made.shape[1] == 24
    for column, clean in zip(range(20, 24), (a, b, a, b), strict=True):
        error = (made[:, column] - clean) / SPREAD
        assert abs(float(error.std()) - noise) < 0.05 * max(noise, 1e-9) + 1e-12
    assert abs(float(a.std()) - SPREAD) < 0.05


def test_the_control_has_features_of_two_other_numbers():
    on, off = (noisy_features(2, rows=3000, noise=0.0, related=own) for own in (True, False))
    exact = [on, off]
    assert torch.equal(on.data.targets["label"], off.data.targets["label"])
    assert torch.equal(on.data.inputs[:, :20], off.data.inputs[:, :20])
    related, other = (
        np.corrcoef(made.data.inputs[:, 20], decoded(made.data.inputs[:, :10]))[0, 1]
        for made in exact
    )
    assert related > 0.999
    assert abs(other) < 0.06
    assert float(off.data.inputs[:, 20].std()) == pytest.approx(SPREAD, rel=0.05)
    feature = caruana_table_6(2, rows=3000, related=False).data
    assert abs(np.corrcoef(feature.inputs[:, 20], feature.targets["f1"][:, 0])[0, 1]) < 0.06


def test_a_shift_moves_the_numbers_and_the_noise():
    made = noisy_features(3, rows=4000, noise=1.0, shift=1.0).data.inputs
    a, b = decoded(made[:, :10]), decoded(made[:, 10:20])
    # A = 5 (2 √U − 1) has the mean 5/3.
    assert float(a.mean()) == pytest.approx(5 / 3, abs=0.15)
    assert float(b.mean()) == pytest.approx(-5 / 3, abs=0.15)
    assert float((made[:, 20] - a).std()) == pytest.approx(2 * SPREAD, rel=0.05)


def test_fewer_rows_are_the_first_of_more():
    for few, many in (
        [caruana_table_6(5, rows=rows).data for rows in (7, 30)],
        [noisy_features(5, rows=rows, noise=1.0, copies=3).data for rows in (7, 30)],
        [noisy_features(5, rows=rows, noise=1.0, shift=2.0).data for rows in (7, 30)],
    ):
        assert torch.equal(few.inputs, many.inputs[:7])
        name = few.tasks[0].name
        assert torch.equal(few.targets[name], many.targets[name][:7])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rows": 0, "noise": 1.0}, "rows must be at least 1"),
        ({"rows": 5, "noise": -1.0}, "noise must be a number"),
        ({"rows": 5, "noise": 1.0, "shift": -0.5}, "shift must be a number"),
        ({"rows": 5, "noise": 1.0, "copies": 0}, "copies must be at least 1"),
    ],
)
def test_impossible_data_are_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        noisy_features(0, **arguments)
