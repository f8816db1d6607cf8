from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtlbook.balancing.task_gradients import task_gradients
from mtlbook.combiner import Evidence
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.weighting.auto_lambda import AutoLambda

pytestmark = pytest.mark.usefixtures("double")
TASKS, STEP = ["first", "second", "third"], 0.2


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in TASKS)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [head(self.trunk(x))[:, 0] for head in self.heads]


def losses_of(model: Network, values: Mapping[str, Tensor], stream: str) -> list[Tensor]:
    x = torch.randn(16, 4, generator=generator(0, stream), dtype=torch.float64)
    y = torch.stack([x[:, 0], x[:, 1] * x[:, 2], -x[:, 0]], 1)
    outputs = functional_call(model, dict(values), (x,))
    return [(each - y[:, n]).square().mean() for n, each in enumerate(outputs)]


def look_ahead(model: Network, combiner: AutoLambda) -> tuple[Evidence, Tensor]:
    """Evidence as a training loop collects it, and the primary loss after the virtual step."""
    values = dict(model.named_parameters())
    losses = losses_of(model, values, "batch")
    own = task_gradients(losses, values.values())
    assert combiner.looks_ahead is not None
    ahead = {
        name: (value - combiner.looks_ahead.step_size * step).detach().requires_grad_()
        for (name, value), step in zip(
            values.items(), own.combine(combiner.virtual_weights()), strict=True
        )
    }
    then = losses_of(model, ahead, "held out")
    cross = own.cross(task_gradients(then, ahead.values()))
    seen = Evidence(own._like, torch.ones(3, dtype=torch.bool), cross=cross)
    return seen, torch.stack(then).detach()[combiner.primary].sum()


def auto_lambda(*primary: str) -> AutoLambda:
    combiner = AutoLambda(TASKS, primary, stream="held out", step_size=STEP)
    combiner.weights.copy_(torch.tensor([0.4, 0.1, 0.3]))
    return combiner


@pytest.mark.parametrize("primary", [("first",), ("third", "second")])
def test_the_gradient_is_that_of_the_loss_after_the_virtual_step(primary):
    """By central differences in λ; Adam's first moment holds a tenth of the gradient."""
    model, combiner = Network(), auto_lambda(*primary)
    seen, _ = look_ahead(model, combiner)
    expected = []
    for n in range(3):
        ends = []
        for shift in (1e-5, -1e-5):
            moved = auto_lambda(*primary)
            moved.weights[n] += shift
            ends.append(float(look_ahead(model, moved)[1]))
        expected.append((ends[0] - ends[1]) / 2e-5)
    combiner.weigh(seen)
    np.testing.assert_allclose(combiner.optimiser.first * 10, expected, rtol=1e-6)


def test_it_learns_which_task_helps():
    """The third task's target is the negative of the first's: its weight falls."""
    model, combiner = Network(), auto_lambda("first")
    combiner.optimiser.learning_rate = 0.01
    for _ in range(30):
        seen, _ = look_ahead(model, combiner)
        weights = combiner.weigh(seen)
        assert torch.equal(weights, combiner.weights)
    assert float(combiner.weights[0]) > 0.5
    assert float(combiner.weights[2]) < 0.2


def test_an_unknown_primary_task_is_refused():
    for primary in (["fourth"], []):
        with pytest.raises(UsageError, match="primary tasks are one or more of"):
            AutoLambda(TASKS, primary, stream="held out", step_size=STEP)
