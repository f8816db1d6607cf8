import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.balancing.backward import backward
from mtlbook.combiner import Evidence
from mtlbook.randomness import generator
from mtlbook.weighting.gradnorm import GradNorm

pytestmark = pytest.mark.usefixtures("double")
TASKS = ["a", "b", "c"]
SCALES = torch.tensor([1.0, 3.0, 0.3], dtype=torch.float64)


def make() -> nn.ModuleDict:
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
    return nn.ModuleDict({"trunk": trunk, **{name: nn.Linear(5, 1) for name in TASKS}})


def losses_of(model: nn.ModuleDict, step: int) -> list[torch.Tensor]:
    source = generator(step, "batch")
    x = torch.randn(16, 4, generator=source, dtype=torch.float64)
    y = SCALES * torch.stack([x[:, 0], x[:, 1] * x[:, 2], x.sum(1)], 1)
    hidden = model["trunk"](x)
    return [(model[name](hidden)[:, 0] - y[:, n]).square().mean() for n, name in enumerate(TASKS)]


@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_training_is_that_of_a_loop_by_hand(alpha):
    """Algorithm 1 of the paper with second-order autograd, and PyTorch's Adam for the weights."""
    ours, theirs = make(), make()
    combiner = GradNorm(TASKS, alpha=alpha, learning_rate=0.02)
    optimiser = torch.optim.SGD(ours.parameters(), lr=1e-3)
    w = nn.Parameter(torch.ones(3))
    of_weights = torch.optim.Adam([w], lr=0.02)
    of_model = torch.optim.SGD(theirs.parameters(), lr=1e-3)
    initial = None
    for step in range(30):
        optimiser.zero_grad()
        backward(losses_of(ours, step), ours.parameters(), combiner)
        optimiser.step()

        losses = torch.stack(losses_of(theirs, step))
        initial = losses.detach() if initial is None else initial
        last = dict(theirs.named_parameters())["trunk.2.weight"]
        norms = torch.stack(
            [
                torch.autograd.grad(w[n] * losses[n], last, create_graph=True)[0].norm()
                for n in range(3)
            ]
        )
        ratios = losses.detach() / initial
        target = (norms.mean() * (ratios / ratios.mean()) ** alpha).detach()
        (gradient,) = torch.autograd.grad((norms - target).abs().sum(), w, retain_graph=True)
        of_model.zero_grad()
        (w.detach() * losses).sum().backward()
        w.grad = gradient
        of_weights.step()
        of_model.step()
        with torch.no_grad():
            w.mul_(3 / w.sum())
        torch.testing.assert_close(combiner.weights, w.detach(), rtol=1e-9, atol=1e-12)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-12)
    assert float(combiner.weights.max() / combiner.weights.min()) > 1.2


def test_without_alpha_the_weighted_norms_become_equal():
    combiner = GradNorm(TASKS, alpha=0.0, learning_rate=0.03)
    norms = torch.tensor([1.0, 10.0, 0.5])
    known = torch.ones(3, dtype=torch.bool)
    for _ in range(500):
        combiner.weigh(Evidence(torch.ones(3), known, gramian=norms.square().diag()))
        combiner.optimiser.learning_rate *= 0.99
    np.testing.assert_allclose(combiner.weights, 3 / norms / (1 / norms).sum(), rtol=0.02)
    assert float(combiner.weights.sum()) == pytest.approx(3)


def test_the_first_loss_of_a_task_is_that_of_its_first_label():
    combiner = GradNorm(TASKS)
    gramian = torch.eye(3)
    combiner.weigh(
        Evidence(torch.tensor([2.0, 3.0, 4.0]), torch.tensor([True, False, True]), gramian=gramian)
    )
    combiner.weigh(
        Evidence(torch.tensor([1.0, 5.0, 1.0]), torch.tensor([True, True, True]), gramian=gramian)
    )
    assert combiner.initial_losses.tolist() == [2.0, 5.0, 4.0]


def test_a_gradient_of_zero_and_large_steps_keep_weights_positive():
    combiner = GradNorm(TASKS, learning_rate=2.0)
    known = torch.ones(3, dtype=torch.bool)
    for _ in range(5):
        combiner.weigh(
            Evidence(torch.ones(3), known, gramian=torch.diag(torch.tensor([0.0, 1.0, 50.0])))
        )
        assert (combiner.weights > 0).all()
        assert float(combiner.weights.sum()) == pytest.approx(3)


def test_networks_that_share_nothing_have_no_gradients_to_weigh():
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    losses = [first.weight.square().sum(), second.weight.square().sum()]
    backward(losses, [*first.parameters(), *second.parameters()], GradNorm(["a", "b"]))
    for layer in (first, second):
        torch.testing.assert_close(layer.weight.grad, 2 * layer.weight)
