from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn

from mtlbook.data.multi_task_data import Holdout
from mtlbook.errors import UsageError
from mtlbook.mechanisms.hints import (
    approximation,
    invariance,
    monotonicity,
    odd_target,
    oddness,
    regulariser,
)
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.settings import Settings

POINTS = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]


class Polynomial(nn.Module):
    """A value for each input: offset + slope x + curve x²."""

    def __init__(self, offset=0.0, slope=0.0, curve=0.0):
        super().__init__()
        coefficients = torch.tensor([offset, slope, curve], dtype=torch.float64)
        self.coefficients = nn.Parameter(coefficients)

    def forward(self, inputs):
        powers = torch.cat([torch.ones_like(inputs), inputs, inputs.square()], 1)
        return {"value": (powers @ self.coefficients)[:, None]}


# Zero for functions that have the property, known for those that lack it --------------------------


@given(st.floats(-5, 5), st.floats(0.1, 3))
def test_oddness_is_zero_for_odd_functions_alone(factor, offset):
    odd = factor * torch.sin(POINTS)
    assert oddness(odd, odd.flip(0)) < 1e-20
    # f(x) + f(−x) is twice the even part.
    found = oddness(odd + offset, odd.flip(0) + offset)
    assert float(found) == pytest.approx((2 * offset) ** 2)


@given(st.floats(-5, 5), st.floats(0.1, 3))
def test_invariance_is_zero_for_functions_that_do_not_change(factor, slope):
    even = factor * POINTS.square()
    assert invariance(even, even.flip(0)) < 1e-20
    tilted = even + slope * POINTS
    expected = (2 * slope * POINTS).square().mean()
    torch.testing.assert_close(invariance(tilted, tilted.flip(0)), expected)


@given(st.floats(0.01, 2), st.floats(0.01, 5))
def test_monotonicity_is_zero_for_increasing_functions_alone(step, slope):
    def error(function):
        return float(monotonicity(function(POINTS), function(POINTS + step)))

    assert error(lambda x: slope * x**3) == 0
    assert error(lambda x: -slope * x) == pytest.approx((slope * step) ** 2)


def test_only_violations_of_monotonicity_count():
    rising_then_falling = -POINTS.square()
    found = monotonicity(rising_then_falling[:-1], rising_then_falling[1:])
    falls = np.diff(-(np.linspace(-2, 2, 41) ** 2))
    assert float(found) == pytest.approx(np.mean(np.minimum(falls, 0) ** 2))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8), st.floats(-3, 0), st.floats(0, 3))
def test_approximation_is_the_squared_distance_from_the_interval(values, low, high):
    tensor = torch.tensor(values, dtype=torch.float64)[:, None]
    found = approximation(tensor, torch.full_like(tensor, low), torch.full_like(tensor, high))
    expected = np.mean((np.array(values) - np.clip(values, low, high)) ** 2)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_bounds_come_to_where_the_values_are():
    # Half the precision stands for another device: `to` moves both.
    low, high = torch.zeros(3, 1).double(), torch.ones(3, 1).double()
    bounded = partial(approximation, low=low, high=high)
    penalty = regulariser(bounded, POINTS[:3], task="value", strength=1.0)
    model = Polynomial(0.3, -0.5, 0.7)
    assert penalty(model.float()).dtype == torch.float32
    if torch.cuda.is_available():
        torch.testing.assert_close(penalty(model.cuda()).cpu(), penalty(model.cpu()))


# As a penalty on a model --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "inputs"),
    [
        (oddness, (POINTS, -POINTS)),
        (invariance, (POINTS, POINTS + 0.3)),
        (monotonicity, (POINTS, POINTS + 0.3)),
    ],
)
def test_the_gradient_of_a_penalty_is_that_of_finite_differences(hint, inputs):
    model = Polynomial(0.3, -0.5, 0.7)
    penalty = regulariser(hint, *inputs, task="value", strength=2.5)
    penalty(model).backward()
    gradient = model.coefficients.grad
    assert gradient is not None

    def at(coefficients):
        return penalty(Polynomial(*coefficients.tolist())).item()

    width = 1e-6
    for number, unit in enumerate(torch.eye(3, dtype=torch.float64)):
        middle = model.coefficients.detach()
        difference = (at(middle + width * unit) - at(middle - width * unit)) / (2 * width)
        assert float(gradient[number]) == pytest.approx(difference, rel=1e-5, abs=1e-7)


def test_a_penalty_is_its_strength_times_the_error():
    model = Polynomial(offset=0.5)
    penalty = regulariser(oddness, POINTS, -POINTS, task="value", strength=3.0)
    assert penalty(model).item() == pytest.approx(3.0)  # (0.5 + 0.5)² at each point


def test_a_penalty_refuses_what_does_not_belong_together():
    with pytest.raises(UsageError, match="row by row"):
        regulariser(oddness, POINTS, POINTS[1:], task="value", strength=1.0)
    with pytest.raises(UsageError, match="strength"):
        regulariser(oddness, POINTS, -POINTS, task="value", strength=-1.0)


def test_fit_takes_a_penalty_and_the_trained_function_has_the_property():
    tasks = [Task.regression("value")]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, inputs):
            return {"value": self.layers(inputs)}

    def asymmetry(strength):
        points = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()
        settings = Settings(
            split=Holdout(train=20, validation=0, test=100),
            steps=100,
            learning_rate=0.03,
            regulariser=regulariser(oddness, points, -points, task="value", strength=strength),
            stopping=None,
            device="cpu",
        )
        trained = fit(
            lambda data, seed: Network(),
            lambda seed: odd_target(seed, rows=120).data,
            seeds=range(3),
            settings=settings,
        )
        x = odd_target(9, rows=200).data.inputs
        with torch.no_grad():
            models = [trained.model(seed) for seed in range(3)]
            return sum(float(oddness(m(x)[tasks[0].name], m(-x)["value"])) for m in models)

    assert asymmetry(30.0) < 0.1 * asymmetry(0.0)


# The target ---------------------------------------------------------------------------------------


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
