from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mtlbook.balancing.shared_parameters import last_shared_weight, shared_parameters
from mtlbook.balancing.task_gradients import task_gradients
from mtlbook.errors import UsageError
from mtlbook.randomness import generator

TASKS = 3


class Network(nn.Module):
    """Two shared layers, of which the last has the first name, and a head for each task."""

    def __init__(self, tasks: int = TASKS) -> None:
        super().__init__()
        self.above = nn.Linear(5, 4)
        self.below = nn.Linear(3, 5)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(tasks))
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        hidden = torch.tanh(self.above(torch.tanh(self.below(inputs))))
        return [head(hidden)[:, 0] for head in self.heads]


def draw(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


INPUTS, TARGETS = draw(20, 3, purpose="inputs"), draw(20, TASKS, purpose="targets")


def losses_of(outputs: list[Tensor], targets: Tensor) -> list[Tensor]:
    return [(each - targets[:, n]).square().mean() for n, each in enumerate(outputs)]


def named(network: nn.Module, tensors: Sequence[Tensor]) -> list[str]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [names[id(tensor)] for tensor in tensors]


SHARED = ["above.weight", "above.bias", "below.weight", "below.bias"]


def jacobian(network: nn.Module, names: list[str]) -> Tensor:
    """By differentiating a function of the parameters, which keeps no graph of theirs."""
    values = {name: p.detach() for name, p in network.named_parameters()}

    def losses(shared: dict[str, Tensor]) -> Tensor:
        return torch.stack(losses_of(functional_call(network, values | shared, INPUTS), TARGETS))

    rows = torch.func.jacrev(losses)({name: values[name] for name in names})
    return torch.cat([rows[name].flatten(1) for name in names], dim=1)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("batched", [None, True, False])
@pytest.mark.parametrize("stacked", [True, False])
def test_gramian_and_sum_are_those_of_the_jacobian(batched, stacked):
    network = Network()
    losses = losses_of(network(INPUTS), TARGETS)
    shared = shared_parameters(losses, network.parameters())
    given = torch.stack(losses) if stacked else losses
    gradients = task_gradients(given, shared, batched=batched)
    rows = jacobian(network, SHARED)
    torch.testing.assert_close(gradients.gramian, rows @ rows.mT, rtol=1e-12, atol=1e-14)
    assert torch.equal(gradients.gramian, gradients.gramian.mT)
    weights = torch.tensor([0.5, -1.0, 2.0])
    combined = torch.cat([each.flatten() for each in gradients.combine(weights)])
    torch.testing.assert_close(combined, weights @ rows, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("batched", [True, False])
def test_replicas_are_as_one_by_one(batched):
    networks = [Network() for _ in range(4)]
    state, _ = stack_module_state(networks)
    inputs, targets = draw(4, 20, 3, purpose="more"), draw(4, 20, TASKS, purpose="others")

    def losses_at(own: dict[str, Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
        return losses_of(functional_call(networks[0], own, (x,)), y)

    losses = vmap(losses_at)(state, inputs, targets)
    shared = shared_parameters(losses, state.values())
    assert [name for name, own in state.items() if any(own is each for each in shared)] == SHARED
    assert last_shared_weight(losses, state.values(), 1) is state["above.weight"]
    gradients = task_gradients(losses, shared, batched=batched)
    weights = draw(4, TASKS, purpose="weights")
    combined = gradients.combine(weights)
    for number, network in enumerate(networks):
        alone = losses_of(network(inputs[number]), targets[number])
        own = task_gradients(alone, shared_parameters(alone, network.parameters()), batched=False)
        torch.testing.assert_close(gradients.gramian[number], own.gramian, rtol=1e-12, atol=1e-14)
        for one, every in zip(own.combine(weights[number]), combined, strict=True):
            torch.testing.assert_close(every[number], one, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("batched", [True, False])
def test_what_a_loss_does_not_reach_has_the_gradient_zero(batched):
    network = Network()
    losses = [*losses_of(network(INPUTS), TARGETS)[:2], network.above.weight.square().sum()]
    everything = list(network.parameters())
    gradients = task_gradients(losses, everything, batched=batched)
    only_last = gradients.combine(torch.tensor([0.0, 0.0, 1.0]))
    for name, combined in zip(named(network, everything), only_last, strict=True):
        if name == "above.weight":
            torch.testing.assert_close(combined, 2 * network.above.weight)
        else:
            assert not combined.any()
    gradients.accumulate(torch.ones(3))
    assert network.unused.grad is None
    assert network.above.weight.grad is not None


@pytest.mark.parametrize("batched", [True, False])
def test_constant_losses_and_no_parameters_are_served(batched):
    x = torch.ones(2, requires_grad=True)
    for losses, expected in [
        ([x.sum(), torch.tensor(3.0)], [[2.0, 0.0], [0.0, 0.0]]),
        ([torch.tensor(3.0), x.sum()], [[0.0, 0.0], [0.0, 2.0]]),
        ([torch.tensor(3.0), torch.tensor(1.0)], [[0.0, 0.0], [0.0, 0.0]]),
    ]:
        assert task_gradients(losses, [x], batched=batched).gramian.tolist() == expected
    assert task_gradients([x.sum(), x.prod()], [], batched=batched).gramian.shape == (2, 2)


@pytest.mark.usefixtures("double")
def test_gradients_accumulate_as_backward_does():
    network = Network()
    for _ in range(2):
        losses = losses_of(network(INPUTS), TARGETS)
        task_gradients(losses, list(network.above.parameters())).accumulate(
            torch.tensor([1.0, 2, 3])
        )
    found = [p.grad for p in network.above.parameters()]
    network.zero_grad()
    for _ in range(2):
        losses = losses_of(network(INPUTS), TARGETS)
        (losses[0] + 2 * losses[1] + 3 * losses[2]).backward()
    for ours, parameter in zip(found, network.above.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("double")
def test_the_graph_is_kept_on_demand():
    network = Network()
    losses = losses_of(network(INPUTS), TARGETS)
    first = task_gradients(losses, [network.above.weight], retain_graph=True)
    second = task_gradients(losses, [network.above.weight])
    assert torch.equal(first.gramian, second.gramian)
    with pytest.raises(RuntimeError, match="second time"):
        task_gradients(losses, [network.above.weight])


@pytest.mark.usefixtures("double")
def test_the_cross_gramian_is_that_of_two_jacobians():
    network, other = Network(), Network()
    own = task_gradients(losses_of(network(INPUTS), TARGETS), list(network.parameters()))
    primary = losses_of(other(INPUTS), TARGETS)[1:2]
    cross = own.cross(task_gradients(primary, list(other.parameters())))
    names = [name for name, _ in network.named_parameters()]
    expected = jacobian(network, names) @ jacobian(other, names)[1:2].mT
    torch.testing.assert_close(cross, expected, rtol=1e-12, atol=1e-14)


def test_scalar_parameters_and_other_precisions_are_served():
    scale = torch.tensor(2.0, requires_grad=True)
    vector = torch.ones(3, dtype=torch.float64, requires_grad=True)
    losses = [scale * vector.sum(), scale**2 + 0 * vector.sum()]
    gradients = task_gradients(losses, [scale, vector])
    np.testing.assert_allclose(gradients.gramian, [[9 + 12, 12], [12, 16]])
    assert [each.dtype for each in gradients.combine(torch.ones(2))] == [
        torch.float32,
        torch.float64,
    ]


def test_parameters_of_other_replicas_are_refused():
    parameter = torch.ones(4, requires_grad=True)
    losses = parameter.sum() * torch.ones(3, 2)
    with pytest.raises(UsageError, match="replicas' axes first"):
        task_gradients(losses, [parameter])


# Who shares what ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("stacked", [True, False])
def test_the_graph_tells_what_is_shared(stacked):
    network = Network()
    losses = losses_of(network(INPUTS), TARGETS)
    given = torch.stack(losses) if stacked else losses
    assert named(network, shared_parameters(given, network.parameters())) == SHARED
    assert last_shared_weight(given, network.parameters()) is network.above.weight
    assert shared_parameters(losses[:1], network.parameters()) == []


@pytest.mark.usefixtures("double")
def test_a_branch_is_shared_by_the_tasks_on_it_alone():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    losses = [first(INPUTS).sum(), (first(INPUTS) @ second.weight).sum(), INPUTS.sum()]
    assert shared_parameters(losses, [*second.parameters(), *first.parameters()]) == [
        first.weight, first.bias
    ]  # fmt: skip


def test_a_parameter_may_be_a_loss_itself():
    alone, both = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    assert shared_parameters([both, both * alone], [alone, both]) == [both]


def test_tasks_that_share_nothing_have_no_last_layer():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    losses = [first.weight.sum(), second.weight.sum()]
    with pytest.raises(UsageError, match="share no parameter"):
        last_shared_weight(losses, [*first.parameters(), *second.parameters()])


@pytest.mark.usefixtures("double")
def test_frozen_parameters_are_not_shared():
    network = Network()
    network.below.requires_grad_(False)
    losses = losses_of(network(INPUTS), TARGETS)
    assert named(network, shared_parameters(losses, network.parameters())) == SHARED[:2]
