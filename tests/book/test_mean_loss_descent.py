"""Descent on the mean of the losses: against a closed form, and by hand in a plain loop."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

from mtlbook.book.experiments.mean_loss_descent import mean_loss_descent
from mtlbook.errors import UsageError
from mtlbook.sharing.input_lasso import InputLasso


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Shared(nn.Module):
    """A trunk, and a head for each task that starts like the others."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
        head = nn.Linear(3, 1).double()
        self.heads = nn.ModuleList([nn.Linear(3, 1).double() for _ in range(tasks)])
        for each in self.heads:
            each.load_state_dict(head.state_dict())

    def forward(self, x):
        hidden = self.trunk(x)
        return [head(hidden) for head in self.heads]


def test_descent_with_the_lasso_finds_the_group_lasso():
    # A linear network of one output: an input is a group of one weight, so a lasso.
    x = normal(60, 5)
    y = x @ torch.tensor([1.0, -2.0, 0, 0, 0.1], dtype=torch.float64) + 0.1 * normal(60, seed=1)
    layer = nn.Linear(5, 1, bias=False, dtype=torch.float64)
    named = list(layer.named_parameters())
    optimiser = mean_loss_descent(named, step_size=0.1, tasks=1, lasso=InputLasso(["weight"], 0.4))
    for _ in range(500):
        optimiser.zero_grad()
        (layer(x)[:, 0] - y).square().mean().backward()
        optimiser.step()
    # scikit-learn halves the mean squared error.
    peer = Lasso(alpha=0.2, fit_intercept=False, tol=1e-12).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(layer.weight.detach()[0].numpy(), peer.coef_, atol=1e-6)
    assert (peer.coef_ == 0).sum() >= 2


@pytest.mark.parametrize("prefix", ["", "model.", "replica.model."])
def test_a_trunk_of_equal_tasks_takes_the_steps_of_a_network_alone(prefix):
    # Three tasks with one label and one head: the mean of their losses is the loss of each.
    x, y = normal(20, 4), normal(20, 1, seed=1)
    after = []
    for count in (1, 3):
        model = Shared(count)
        named = [(prefix + name, values) for name, values in model.named_parameters()]
        lasso = InputLasso(["trunk.0.weight"], 0.05)
        optimiser = mean_loss_descent(
            named, step_size=0.2, tasks=count, weight_decay=0.1, lasso=lasso
        )
        for _ in range(5):
            optimiser.zero_grad()
            torch.stack([(values - y).square().mean() for values in model(x)]).sum().backward()
            optimiser.step()
        after.append(model)
    alone, joint = (dict(model.named_parameters()) for model in after)
    start = dict(Shared(1).named_parameters())
    assert not torch.equal(alone["trunk.0.weight"], start["trunk.0.weight"])
    for name, values in alone.items():
        torch.testing.assert_close(joint[name], values)


def test_several_tasks_without_a_trunk_are_refused():
    named = list(nn.Linear(2, 2).named_parameters())
    mean_loss_descent(named, step_size=0.1, tasks=1)
    with pytest.raises(UsageError, match="2 tasks share no parameter with a component trunk"):
        mean_loss_descent(named, step_size=0.1, tasks=2)
