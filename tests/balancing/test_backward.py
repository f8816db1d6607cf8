from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlbook.balancing.backward import backward
from mtlbook.balancing.imtl import IMTL
from mtlbook.balancing.mgda import MGDA
from mtlbook.balancing.pcgrad import PCGrad
from mtlbook.balancing.upgrad import UPGrad
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.weighting.uncertainty import UncertaintyWeighting

pytestmark = pytest.mark.usefixtures("double")
TASKS = ["a", "b", "c"]
X = torch.randn(16, 4, generator=generator(0, "batch"), dtype=torch.float64)
Y = torch.stack([X[:, 0], -5 * X[:, 0] + X[:, 1], X[:, 2] * X[:, 3]], 1)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(3, 1) for _ in TASKS)

    def losses(self) -> list[Tensor]:
        hidden = self.trunk(X)
        return [(h(hidden)[:, 0] - Y[:, n]).square().mean() for n, h in enumerate(self.heads)]


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(scalars: Sequence[Tensor], model: Network, weights: Tensor, own: bool) -> dict:
    """Weighted gradients in the trunk, in the heads weighted or their own ones."""
    found = {}
    for name, parameter in model.named_parameters():
        rows = [
            torch.autograd.grad(s, parameter, retain_graph=True, allow_unused=True)[0]
            for s in scalars
        ]
        factors = torch.ones(3) if own and name.startswith("heads") else weights
        found[name] = sum(f * row for f, row in zip(factors, rows, strict=True) if row is not None)
    return found


def test_without_a_gramian_it_is_backward():
    tasks = [Task.regression("a"), Task.classification("b", 2), Task.regression("c")]
    ours, theirs = Network(), Network()
    first, second = (UncertaintyWeighting(tasks, 0.4) for _ in range(2))
    backward(ours.losses(), ours.parameters(), first)
    second(torch.stack(theirs.losses())).backward()
    torch.testing.assert_close(gradients_of(ours), gradients_of(theirs))
    torch.testing.assert_close(gradients_of(first), gradients_of(second))


@pytest.mark.parametrize("rule", [MGDA, UPGrad, PCGrad])
@pytest.mark.parametrize("heads", ["own", "weighted"])
def test_the_trunk_follows_the_weights_and_the_heads_the_policy(rule, heads):
    model, twin = Network(), rule(TASKS, heads=heads)
    seen = backward(model.losses(), model.parameters(), rule(TASKS, heads=heads))
    fresh = Network()
    wanted = by_hand(fresh.losses(), fresh, twin.weigh(seen), own=heads == "own")
    torch.testing.assert_close(gradients_of(model), wanted)
    assert seen.gramian is not None
    assert bool((seen.gramian - seen.gramian.diagonal().diag() < 0).any())  # tasks conflict


def test_a_transformation_reaches_gramian_heads_and_its_own_parameters():
    """IMTL: everything as if the scaled losses had been differentiated themselves."""
    model, combiner, twin = Network(), IMTL(TASKS), IMTL(TASKS)
    scales = torch.tensor([0.5, -1.0, 0.2])
    for own in (combiner, twin):
        with torch.no_grad():
            own.log_scales.copy_(scales)
    seen = backward(model.losses(), model.parameters(), combiner)

    fresh = Network()
    losses = torch.stack(fresh.losses())
    scaled = (twin.log_scales.exp() * losses - twin.log_scales).unbind()
    trunk = list(fresh.trunk.parameters())
    rows = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(s, trunk, retain_graph=True)])
            for s in scaled
        ]
    )
    torch.testing.assert_close(seen.gramian, rows @ rows.mT, rtol=1e-9, atol=1e-12)
    wanted = by_hand(scaled, fresh, twin.weigh(seen), own=True)
    torch.testing.assert_close(gradients_of(model), wanted)
    assert combiner.log_scales.grad is not None
    np.testing.assert_allclose(
        combiner.log_scales.grad, scales.exp() * losses.detach() - 1, rtol=1e-12
    )


@pytest.mark.parametrize("rule", [Combiner, MGDA, UPGrad, PCGrad, IMTL])
def test_a_task_without_labels_is_as_if_it_were_not_there(rule):
    labelled = torch.tensor([True, False, True])
    model, without = Network(), Network()
    losses = model.losses()
    losses[1] = losses[1] * 1e9
    backward(losses, model.parameters(), rule(TASKS), labelled=labelled)
    if rule is PCGrad:  # draws for as many tasks as it has
        backward(without.losses(), without.parameters(), rule(TASKS), labelled=labelled)
    else:
        backward(without.losses()[::2], without.parameters(), rule(TASKS[::2]))
    for name, gradient in gradients_of(without).items():
        torch.testing.assert_close(gradients_of(model)[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", [Combiner, MGDA, UPGrad, PCGrad, IMTL])
def test_one_task_and_tasks_that_share_nothing_keep_their_own_gradients(rule):
    """Defect 4: there is nothing to balance, and so no Gramian to take."""
    model, alone = Network(), Network()
    backward(model.losses()[:1], model.parameters(), rule(TASKS[:1]))
    alone.losses()[0].backward()
    torch.testing.assert_close(gradients_of(model), gradients_of(alone))

    networks = [Network(), Network()]
    losses = [networks[0].losses()[0], networks[1].losses()[1]]
    backward(losses, [p for net in networks for p in net.parameters()], rule(TASKS[:2]))
    for n, network in enumerate(networks):
        twin = Network()
        twin.losses()[n].backward()
        torch.testing.assert_close(gradients_of(network), gradients_of(twin))


def test_replicas_are_as_one_by_one():
    networks = [Network() for _ in range(3)]
    with torch.no_grad():
        for n, network in enumerate(networks):
            for parameter in network.parameters():
                parameter.add_(0.1 * n)
    state, _ = torch.func.stack_module_state(networks)
    base = networks[0]

    class Losses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = base

        def forward(self) -> list[Tensor]:
            return self.network.losses()

    def one(own: dict[str, Tensor]) -> list[Tensor]:
        named = {f"network.{name}": values for name, values in own.items()}
        return torch.func.functional_call(Losses(), named, ())

    combiner = PCGrad(TASKS).replicated([4, 5, 6])
    backward(torch.func.vmap(one)(state), state.values(), combiner)
    for n, network in enumerate(networks):
        network.zero_grad()
        backward(network.losses(), network.parameters(), PCGrad(TASKS, seed=4 + n))
        for name, gradient in gradients_of(network).items():
            found = state[name].grad
            assert found is not None
            torch.testing.assert_close(found[n], gradient, rtol=1e-12, atol=1e-14)


def test_as_many_losses_as_tasks_are_needed():
    model = Network()
    with pytest.raises(UsageError, match="3 losses are given"):
        backward(model.losses(), model.parameters(), UPGrad(TASKS[:2]))


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("heads", ["own", "weighted"])
def test_heads_accumulate_and_a_task_without_labels_leaves_zeros(stacked, heads):
    """Heads take their gradients from the tasks' own passes: as backward() leaves them."""
    model, twin = Network(), Network()
    labelled = torch.tensor([True, False, True])

    def once() -> Evidence:
        losses = model.losses()
        given = torch.stack(losses) if stacked else losses
        combiner = UPGrad(TASKS, heads=heads)
        return backward(given, model.parameters(), combiner, labelled=labelled)

    once()
    seen = once()
    weights = UPGrad(TASKS, heads=heads).weigh(seen) if heads == "weighted" else labelled.double()
    for _ in range(2):
        (weights * torch.stack(twin.losses())).sum().backward()
    for name, gradient in gradients_of(model.heads).items():
        torch.testing.assert_close(gradient, gradients_of(twin.heads)[name])
    assert not gradients_of(model.heads)["1.weight"].any()


def test_the_graph_is_kept_on_demand():
    model, twin = Network(), Network()
    losses = model.losses()
    backward(losses, model.parameters(), UPGrad(TASKS), retain_graph=True)
    backward(losses, model.parameters(), UPGrad(TASKS))
    for _ in range(2):
        backward(twin.losses(), twin.parameters(), UPGrad(TASKS))
    torch.testing.assert_close(gradients_of(model), gradients_of(twin))
    with pytest.raises(RuntimeError, match="second time"):
        backward(losses, model.parameters(), UPGrad(TASKS))
