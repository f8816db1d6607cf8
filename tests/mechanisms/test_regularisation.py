"""Random labels and the ability to fit them, against least squares and optimisation."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlbook.errors import UsageError
from mtlbook.mechanisms.regularisation import equal_width, random_labels, reduced_rank_fit
from mtlbook.randomness import generator

INPUTS = torch.zeros(4000, 1)


def agreeing(data, first: int, second: int) -> float:
    labels = data.targets["noise"]
    return float((labels[:, first] == labels[:, second]).double().mean())


@pytest.mark.parametrize("rho", [0.0, 0.4, 1.0])
def test_two_tasks_agree_as_the_dial_says(rho):
    data = random_labels(INPUTS, 0, tasks=3, agreement=rho)
    # Both take the common label with probability ρ², and otherwise agree by chance.
    expected = rho**2 + (1 - rho**2) / 2
    for pair in itertools.combinations(range(3), 2):
        assert agreeing(data, *pair) == pytest.approx(expected, abs=0.03)
    torch.testing.assert_close(
        data.targets["noise"].mean(0), torch.full((3,), 0.5).double(), atol=0.03, rtol=0.0
    )


def test_further_tasks_leave_the_earlier_ones_as_they_were():
    few, many = (
        random_labels(INPUTS, seed, tasks=tasks, agreement=0.5).targets["noise"]
        for seed, tasks in ((3, 2), (3, 5))
    )
    assert torch.equal(few, many[:, :2])
    other = random_labels(INPUTS, 4, tasks=2, agreement=0.5)
    assert agreeing(other, 0, 1) < 0.7
    assert not torch.equal(few, other.targets["noise"])


@given(st.integers(6, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_without_a_bottleneck_the_fit_is_that_of_least_squares(rows, inputs, tasks, seed):
    draws = generator(seed, "test")
    x = torch.randn(rows, inputs, generator=draws, dtype=torch.float64)
    y = torch.randn(rows, tasks, generator=draws, dtype=torch.float64)
    left = y - x @ torch.linalg.lstsq(x, y).solution
    expected = 1 - float(left.square().sum() / y.square().sum())
    for rank in (min(inputs, tasks), inputs + tasks):
        assert reduced_rank_fit(x, y, rank) == pytest.approx(expected, abs=1e-9)


def test_with_a_bottleneck_it_is_what_training_reaches():
    draws = generator(0, "test")
    x = torch.randn(30, 6, generator=draws, dtype=torch.float64)
    y = torch.randn(30, 5, generator=draws, dtype=torch.float64)
    features = torch.randn(6, 2, generator=draws, dtype=torch.float64, requires_grad=True)
    # The best heads for given features are least squares; the features are found by search.
    search = torch.optim.LBFGS([features], max_iter=300, line_search_fn="strong_wolfe")

    def left() -> torch.Tensor:
        z = x @ features
        return (y - z @ torch.linalg.solve(z.T @ z, z.T @ y)).square().sum()

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = left()
        loss.backward()
        return loss

    search.step(closure)
    reached = 1 - float(left().detach() / y.square().sum())
    assert reduced_rank_fit(x, y, rank=2) == pytest.approx(reached, abs=1e-6)


def test_noise_is_fitted_by_its_share_of_the_directions():
    draws = generator(1, "test")
    shares = [
        reduced_rank_fit(
            torch.randn(60, 15, generator=draws, dtype=torch.float64),
            torch.randn(60, 2, generator=draws, dtype=torch.float64),
            rank=4,
        )
        for _ in range(200)
    ]
    assert sum(shares) / len(shares) == pytest.approx(15 / 60, abs=0.02)


def test_directions_that_inputs_lack_fit_nothing():
    x = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    y = torch.tensor([[1.0], [-1.0], [3.0]])
    assert reduced_rank_fit(x, y, rank=2) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("tasks", "width", "inputs"), [(8, 2, 20), (3, 16, 64), (1, 5, 3)])
def test_a_shared_layer_of_equal_width_has_as_many_parameters(tasks, width, inputs):
    def parameters(width, heads):
        layer, head = nn.Linear(inputs, width), nn.Linear(width, heads)
        return sum(each.numel() for each in (*layer.parameters(), *head.parameters()))

    separate = tasks * parameters(width, 1)
    wide = equal_width(width, tasks=tasks, inputs=inputs)
    # The nearest whole width: half a unit more or less has half of its weights more or less.
    assert abs(parameters(wide, tasks) - separate) <= (inputs + 1 + tasks) / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_labels(INPUTS, 0, tasks=0), "at least 1, not 0"),
        (lambda: random_labels(INPUTS, 0, tasks=1, agreement=1.5), "between 0 and 1, not at 1.5"),
        (lambda: reduced_rank_fit(torch.eye(2), torch.eye(2), 0), "at least 1, not 0"),
        (lambda: equal_width(0, tasks=2, inputs=3), "at least 1, not 0"),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()
