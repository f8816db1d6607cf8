"""The Gramian and sum of gradients from linear layers' inputs and cotangents, against all rows."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbook.balancing.linear_layers import linear_layers
from mtlbook.balancing.task_gradients import task_gradients
from mtlbook.randomness import generator

pytestmark = pytest.mark.usefixtures("double")
TASKS, ROWS, WIDE = 24, 3, 40


def draw(*shape: int, purpose: str = "inputs") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


class Twice(nn.Module):
    """One layer in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(torch.tanh(self.layer(torch.tanh(self.layer(inputs)))))


class Tied(nn.Module):
    """One weight in two layers with biases of their own, and one that is also its own decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)
        self.second.weight = self.first.weight
        self.code = nn.Linear(WIDE, 8, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(inputs))))
        return self.code(hidden) @ self.code.weight


class Penalised(nn.Module):
    """A weight that is used outside its layer as well."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDE, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + self.layer.weight.square().sum()


class Tokens(nn.Module):
    """A layer on every token of a sequence, one without a bias, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, WIDE)
        self.layer, self.out = nn.Linear(WIDE, 10), nn.Linear(10 * 2, 8, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.embedding((inputs[:, :2] > 0).long())
        return self.out(torch.relu_(self.layer(tokens)).flatten(1))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDE, 30), nn.ReLU(inplace=True), nn.Linear(30, 8), nn.Tanh())


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, WIDE)), nn.Conv1d(1, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(108, 8)
    )


def with_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(WIDE, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.LayerNorm(30), nn.Linear(30, 8)
    )


def losses_of(trunk: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Of heads that are not trained; the last task does not reach the trunk at all."""
    hidden = trunk(inputs)
    heads = draw(TASKS - 1, hidden.shape[1], purpose="heads")
    targets = draw(TASKS - 1, len(hidden), purpose="targets")
    pairs = zip(heads, targets, strict=True)
    return [
        *((hidden @ h - y).square().mean() for h, y in pairs),
        torch.ones((), dtype=hidden.dtype),
    ]


def by_jacobian(losses: list[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """One gradient a task, as autograd has it."""
    rows = []
    for loss in losses:
        if not loss.requires_grad:
            rows.append(torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64))
            continue
        own = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in own]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("build", "factored"),
    [
        (mlp, {"0.weight", "2.weight"}),
        (cnn, {"4.weight"}),
        (with_batch_norm, {"0.weight", "4.weight"}),
        (Twice, {"layer.weight", "out.weight"}),
        (Tied, {"first.weight"}),
        (Penalised, set()),
        (Tokens, {"layer.weight", "out.weight"}),
    ],
)
def test_gramian_and_sum_are_those_of_all_rows(build: Callable[[], nn.Module], factored: set[str]):
    torch.manual_seed(0)
    trunk = build()
    losses, parameters = losses_of(trunk, draw(ROWS, WIDE)), list(trunk.parameters())
    layers = linear_layers(losses, parameters)
    assert {name for name, p in trunk.named_parameters() if id(p) in layers} == factored
    rows = by_jacobian(losses, parameters)
    gradients = task_gradients(losses, parameters)
    expected = rows @ rows.mT
    assert float((gradients.gramian - expected).norm() / expected.norm()) < 1e-14
    weights = draw(TASKS, purpose="weights")
    combined = gradients.combine(weights)
    assert [each.shape for each in combined] == [p.shape for p in parameters]
    found = torch.cat([each.flatten() for each in combined])
    torch.testing.assert_close(found, weights @ rows, rtol=1e-12, atol=1e-14)


def test_inputs_that_depend_on_each_other_are_served():
    torch.manual_seed(0)
    trunk, inputs = mlp(), draw(ROWS, WIDE)
    inputs[1], inputs[2] = inputs[0], 0
    losses, parameters = losses_of(trunk, inputs), list(trunk.parameters())
    assert linear_layers(losses, parameters)
    rows = by_jacobian(losses, parameters)
    gramian = task_gradients(losses, parameters).gramian
    torch.testing.assert_close(gramian, rows @ rows.mT, rtol=1e-13, atol=1e-14)


def test_gradients_that_nearly_vanish_keep_their_digits():
    """Two rows with one input and cotangents that cancel but for 1e-4 of them, in float32."""
    layer = nn.Linear(WIDE, 8, bias=False, dtype=torch.float32)
    inputs = draw(1, WIDE).float().expand(2, -1)
    sign = torch.tensor([[1.0], [-1 + 2.0**-13]])
    heads = draw(TASKS, 8, purpose="heads").float()
    shared = layer(inputs) * sign
    losses = [(shared * head).sum() for head in heads]
    assert linear_layers(losses, [layer.weight])
    direction = (2.0**-13 * inputs[0]).double()
    expected = direction.square().sum() * (heads.double() @ heads.double().mT)
    found = task_gradients(losses, [layer.weight]).gramian.double()
    assert float((found - expected).norm() / expected.norm()) < 1e-2


def test_the_cross_gramian_is_between_batches():
    torch.manual_seed(0)
    trunk = mlp()
    parameters = list(trunk.parameters())
    here, there = (losses_of(trunk, draw(ROWS, WIDE, purpose=p)) for p in ("one", "another"))
    expected = by_jacobian(here, parameters) @ by_jacobian(there, parameters).mT
    cross = task_gradients(here, parameters).cross(task_gradients(there, parameters))
    torch.testing.assert_close(cross, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("change", ["hook", "scaled", "bfloat16", "transposed", "many rows"])
def test_what_is_not_plainly_a_linear_layer_is_left_to_autograd(change):
    weight = draw(8, WIDE, purpose="weight").requires_grad_()
    inputs = draw(ROWS, WIDE)
    if change == "hook":
        weight.register_hook(lambda gradient: 2 * gradient)
        hidden = F.linear(inputs, weight)
    elif change == "scaled":
        hidden = torch.addmm(torch.zeros(8, dtype=torch.float64), inputs, weight.t(), alpha=3)
    elif change == "bfloat16":
        weight = weight.detach().float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = F.linear(inputs.float(), weight).double()
    elif change == "transposed":
        weight = weight.detach().mT.contiguous().requires_grad_()
        hidden = inputs @ weight
    else:
        hidden = F.linear(draw(WIDE, WIDE), weight)
    losses = losses_of(nn.Identity(), hidden)
    assert not linear_layers(losses, [weight])
    rows = by_jacobian(losses, [weight]).double()
    found = task_gradients(losses, [weight]).gramian.double()
    expected = rows @ rows.mT
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_rows_take_the_memory_of_the_batch_and_not_of_the_layer():
    trunk = mlp()
    weight = next(trunk.parameters())
    gradients = task_gradients(losses_of(trunk, draw(ROWS, WIDE)), [weight])
    assert gradients.rows[0] is not None
    assert gradients.rows[0].shape == (TASKS, ROWS, 30)
