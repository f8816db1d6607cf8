import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtlbook.errors import UsageError
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=6)


@given(WEIGHTS, st.data())
def test_the_gradient_along_each_loss_is_its_weight(weights, data):
    values = data.draw(arrays.arrays(np.float64, len(weights), elements=st.floats(-50, 50)))
    losses = torch.from_numpy(values).requires_grad_()
    LinearScalarisation(weights)(losses).backward()
    assert losses.grad is not None
    np.testing.assert_array_equal(losses.grad.numpy(), weights)


@given(WEIGHTS)
def test_uniform_weights_are_the_plain_sum(weights):
    losses = torch.tensor(weights, dtype=torch.float64)
    plain = LinearScalarisation([1.0] * len(weights))
    assert float(plain(losses)) == pytest.approx(sum(weights))


def test_the_minimiser_walks_along_the_trade_off_curve():
    """Of (θ − 1)² and (θ + 2)² the weighted minimiser is the weighted mean of 1 and −2."""
    for first, second in [(1.0, 1.0), (1.0, 0.0), (0.2, 5.0)]:
        minimiser = (first - 2 * second) / (first + second)
        theta = torch.tensor(minimiser, dtype=torch.float64, requires_grad=True)
        losses = torch.stack([(theta - 1).square(), (theta + 2).square()])
        LinearScalarisation([first, second])(losses).backward()
        assert theta.grad is not None
        assert float(theta.grad) == pytest.approx(0, abs=1e-12)


def test_weights_follow_the_module_and_are_not_trained():
    joint = LinearScalarisation([1.0, 2.0])
    assert not list(joint.parameters())
    assert joint.state_dict()["weights"].tolist() == [1.0, 2.0]
    for dtype in (torch.float32, torch.float64):
        assert joint(torch.ones(2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [], [float("nan")]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(UsageError, match="not negative and not all zero"):
        LinearScalarisation(weights)
