import pickle

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtlbook.combiner import Evidence
from mtlbook.errors import UsageError
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

WEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=6)


def scalarisation(*weights: float) -> LinearScalarisation:
    return LinearScalarisation({f"task_{n}": weight for n, weight in enumerate(weights)})


@given(WEIGHTS, st.data())
def test_the_gradient_along_each_loss_is_its_weight(weights, data):
    values = data.draw(arrays.arrays(np.float64, len(weights), elements=st.floats(-50, 50)))
    losses = torch.from_numpy(values).requires_grad_()
    scalarisation(*weights)(losses).backward()
    assert losses.grad is not None
    np.testing.assert_array_equal(losses.grad.numpy(), weights)


@given(WEIGHTS)
def test_uniform_weights_are_the_plain_sum(weights):
    losses = torch.tensor(weights, dtype=torch.float64)
    plain = scalarisation(*[1.0] * len(weights))
    assert float(plain(losses)) == pytest.approx(sum(weights))


def test_the_minimiser_walks_along_the_trade_off_curve():
    """Of (θ - 1)² and (θ + 2)² the weighted minimiser is the weighted mean of 1 and -2."""
    for first, second in [(1.0, 1.0), (1.0, 0.0), (0.2, 5.0)]:
        minimiser = (first - 2 * second) / (first + second)
        theta = torch.tensor(minimiser, dtype=torch.float64, requires_grad=True)
        losses = torch.stack([(theta - 1).square(), (theta + 2).square()])
        scalarisation(first, second)(losses).backward()
        assert theta.grad is not None
        assert float(theta.grad) == pytest.approx(0, abs=1e-12)


def test_weights_are_exact_in_each_precision_and_not_trained():
    joint = pickle.loads(pickle.dumps(scalarisation(0.1, 0.7)))
    assert not list(joint.parameters())
    for dtype in (torch.float32, torch.float64):
        losses = torch.ones(3, 2, dtype=dtype)
        expected = torch.tensor([[0.1, 0.7]] * 3, dtype=dtype)
        assert torch.equal(joint.weigh(Evidence(losses, losses > 0)), expected)


def test_a_weight_belongs_to_its_task():
    """Defect 11: the losses come in the order of the names, which is the combiner's to say."""
    weights = {"depth": 1.0, "segments": 0.5}
    turned = LinearScalarisation(dict(reversed(weights.items())))
    assert turned.tasks == ("segments", "depth")
    assert float(turned(torch.tensor([4.0, 2.0]))) == 4
    assert float(LinearScalarisation(weights)(torch.tensor([2.0, 4.0]))) == 4


def test_weights_without_names_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(UsageError, match="belong to tasks by name"):
        LinearScalarisation([1.0, 0.5])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "weights", [[0.0, 0.0], [1.0, -1.0], [], [float("nan")], [1.0, float("inf")]]
)
def test_impossible_weights_are_refused(weights):
    with pytest.raises(UsageError, match="not negative and not all zero"):
        scalarisation(*weights)
