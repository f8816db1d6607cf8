"""Heads on a frozen representation against scikit-learn's regressions."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from torch import nn

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.transfer.linear_probe import hidden_layer, ridge_path, tuned_head


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test", *shape), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(30, 5), (6, 10)])
def test_the_heads_are_ridge_regressions(shape):
    hidden, targets = normal(*shape) + 2, normal(shape[0], 3, seed=1)
    weights, intercepts = ridge_path(hidden, targets, [0.01, 1.0])
    for number, penalty in enumerate([0.01, 1.0]):
        # scikit-learn's loss is a sum, ours a mean.
        peer = Ridge(alpha=shape[0] * penalty).fit(hidden.numpy(), targets.numpy())
        np.testing.assert_allclose(weights[number].T, peer.coef_, atol=1e-9)
        np.testing.assert_allclose(intercepts[number, 0], peer.intercept_, atol=1e-9)


def test_without_a_penalty_they_are_least_squares_of_least_norm():
    hidden, targets = normal(5, 9), normal(5, 2, seed=1)
    weights, intercepts = ridge_path(hidden, targets, [0.0])
    torch.testing.assert_close(hidden @ weights[0] + intercepts[0], targets)
    peer = LinearRegression().fit(hidden.numpy(), targets.numpy())
    np.testing.assert_allclose(weights[0].T, peer.coef_, atol=1e-9)


def test_a_constant_representation_gives_the_mean():
    weights, intercepts = ridge_path(torch.ones(4, 3).double(), normal(4, 2), [0.0, 1.0])
    assert not weights.any()
    torch.testing.assert_close(intercepts[:, 0], normal(4, 2).mean(0).expand(2, -1))


def test_each_task_chooses_its_penalty_on_the_validation_rows():
    hidden = normal(40, 6)
    targets = torch.cat([hidden[:, :1], normal(40, 1, seed=5)], dim=1)
    predicted = tuned_head(hidden, targets, 10, 10, [0.0, 1e9])
    # A linear target wants no penalty. Of noise nothing can be learnt: the mean does best.
    torch.testing.assert_close(predicted[:, 0], targets[20:, 0])
    torch.testing.assert_close(
        predicted[:, 1], targets[:10, 1].mean().expand(20), atol=1e-6, rtol=0
    )


def test_validation_rows_choose_and_test_rows_have_no_say():
    hidden, targets = normal(30, 4), normal(30, 1, seed=3)
    penalties = [0.01, 10.0]
    paths = [
        Ridge(alpha=10 * penalty).fit(hidden[:10].numpy(), targets[:10].numpy())
        for penalty in penalties
    ]
    predicted = torch.from_numpy(np.stack([path.predict(hidden.numpy()) for path in paths]))
    for number in (0, 1):
        # Validation targets that one of the two penalties predicts exactly.
        rigged = targets.clone()
        rigged[10:20, 0] = predicted[number, 10:20].flatten()
        found = tuned_head(hidden, rigged, 10, 10, penalties)
        torch.testing.assert_close(found.flatten(), predicted[number, 20:].flatten())
        rigged[20:] += 100
        torch.testing.assert_close(tuned_head(hidden, rigged, 10, 10, penalties), found)


@pytest.mark.parametrize(("train", "validation"), [(0, 3), (3, 0), (6, 4)])
def test_counts_that_leave_nothing_are_refused(train, validation):
    with pytest.raises(UsageError, match="leave no test row"):
        tuned_head(normal(10, 2), normal(10, 1), train, validation, [0.1])


def test_a_hidden_layer_has_no_gradients():
    trunk = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    x = normal(5, 4)
    hidden = hidden_layer(trunk, x)
    assert not hidden.requires_grad
    assert torch.equal(hidden, trunk(x).detach())
