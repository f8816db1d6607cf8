import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.balancing.backward import backward
from mtlbook.combiner import Evidence
from mtlbook.randomness import generator
from mtlbook.weighting.famo import FAMO

pytestmark = pytest.mark.usefixtures("double")
TASKS = ["a", "b", "c"]


def losses_of(model: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(16, 4, generator=generator(step, "batch"), dtype=torch.float64)
    y = torch.stack([x[:, 0], 30 * x[:, 1], x[:, 2] * x[:, 3]], 1)
    return (model(x) - y).square().mean(0)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_training_is_that_of_a_loop_by_hand(decay):
    """The authors' form: the logarithm of the losses, autograd by ξ, and PyTorch's Adam."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    combiner = FAMO(TASKS, decay=decay)
    optimiser = torch.optim.SGD(ours.parameters(), lr=0.05)
    of_model = torch.optim.SGD(theirs.parameters(), lr=0.05)
    xi = nn.Parameter(torch.zeros(3))
    of_weights = torch.optim.Adam([xi], lr=0.025, weight_decay=decay)
    for step in range(40):
        optimiser.zero_grad()
        seen = backward(losses_of(ours, step), ours.parameters(), combiner)
        optimiser.step()
        combiner.after(seen, losses_of(ours, step).detach())

        losses = losses_of(theirs, step)
        z = xi.softmax(0)
        scale = (z / (losses + 1e-8)).sum().detach()
        of_model.zero_grad()
        (torch.log(losses + 1e-8) * z.detach() / scale).sum().backward()
        of_model.step()
        fall = (losses.detach() + 1e-8).log() - (losses_of(theirs, step).detach() + 1e-8).log()
        (xi.grad,) = torch.autograd.grad(xi.softmax(0), xi, fall)
        of_weights.step()
        torch.testing.assert_close(combiner.logits, xi.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-9, atol=1e-12)
    assert float(xi.detach().abs().max()) > 0.05


def test_at_the_start_it_steps_along_the_sum_of_log_losses():
    losses = torch.tensor([2.0, 50.0, 0.1])
    weights = FAMO(TASKS).weigh(Evidence(losses, torch.ones(3, dtype=torch.bool)))
    np.testing.assert_allclose(weights, (1 / losses) / (1 / losses).sum(), rtol=1e-6)


def test_losses_that_fall_alike_leave_the_weights():
    combiner = FAMO(TASKS)
    losses = torch.tensor([2.0, 50.0, 0.1])
    combiner.after(Evidence(losses, torch.ones(3, dtype=torch.bool)), losses * 0.7)
    np.testing.assert_allclose(combiner.logits, 0, atol=0.03)
    weights = combiner.logits.softmax(0)
    combiner.after(
        Evidence(losses, torch.ones(3, dtype=torch.bool)), losses * torch.tensor([1.0, 0.2, 0.2])
    )
    assert float(combiner.logits.softmax(0)[0]) > float(weights[0])


def test_a_loss_at_its_lower_bound_is_finite():
    combiner = FAMO(TASKS, lower_bound=-1.0)
    losses = torch.tensor([-1.0, 0.0, 3.0])
    seen = Evidence(losses, torch.ones(3, dtype=torch.bool))
    assert torch.isfinite(combiner.weigh(seen)).all()
    combiner.after(seen, losses - 0.5)
    assert torch.isfinite(combiner.logits).all()
