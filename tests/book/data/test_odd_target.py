"""The odd target against integrals, and the price of the hint that is not true."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mtlbook.book.data.odd_target import odd_target
from mtlbook.errors import UsageError
from mtlbook.mechanisms.hints import monotonicity, oddness


@pytest.mark.parametrize("even_part", [0.0, 0.4, 1.0])
def test_the_target_has_variance_one_and_the_even_part_of_the_dial(even_part):
    world = odd_target(0, rows=200_000, even_part=even_part)
    signal, x = world.noiseless["value"], world.data.inputs
    assert float(signal.var()) == pytest.approx(1.0, abs=0.03)
    u = x @ world.features["value"]
    # The even part's coefficient by projection on the normalised Hermite polynomial.
    hermite = (u.square() - 1) / np.sqrt(2)
    assert float((signal * hermite).mean()) == pytest.approx(even_part, abs=0.02)
    residual = world.data.targets["value"] - signal
    assert float(residual.std()) == pytest.approx(0.5, rel=0.01)


def test_the_spread_of_the_odd_part_is_the_integral():
    variance = integrate.quad(lambda u: np.tanh(2 * u) ** 2 * stats.norm.pdf(u), -12, 12)[0]
    world = odd_target(1, rows=5, noise=0.0)
    u = world.data.inputs @ world.features["value"]
    torch.testing.assert_close(world.data.targets["value"], torch.tanh(2 * u) / np.sqrt(variance))


def test_without_an_even_part_the_target_is_odd_and_increasing():
    world = odd_target(2, rows=50)
    direction = world.features["value"]
    assert (direction > 0).all()
    assert float(direction.norm()) == pytest.approx(1.0)
    x = world.data.inputs
    raised = x + torch.rand(50, 6, generator=torch.Generator().manual_seed(0))

    def f(inputs):
        return torch.tanh(2 * inputs @ direction)

    assert monotonicity(f(x), f(raised)) == 0
    assert oddness(f(x), f(-x)) < 1e-20


def test_no_odd_function_is_below_the_price_of_the_hint():
    """The best odd function leaves σ² + δ²: the mean of y over x and −x, in odd symmetry."""
    world = odd_target(3, rows=200_000, even_part=0.4, noise=0.5)
    odd_part = odd_target(3, rows=200_000, noise=0.0).data.targets["value"] * np.sqrt(1 - 0.4**2)
    error = (world.data.targets["value"] - odd_part).square().mean()
    assert float(error) == pytest.approx(0.25 + 0.16, abs=0.01)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"inputs": 0}, {"even_part": 2.0}, {"noise": -1.0}])
def test_impossible_targets_are_refused(wrong):
    with pytest.raises(UsageError):
        odd_target(0, **({"rows": 5} | wrong))
