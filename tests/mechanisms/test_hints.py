from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlbook.book.data.odd_target import odd_target
from mtlbook.data.multi_task_data import Holdout
from mtlbook.errors import UsageError
from mtlbook.mechanisms.hints import (
    approximation,
    invariance,
    monotonicity,
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
