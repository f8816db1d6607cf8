"""Hard sharing: its two ends against separate networks and against Caruana's network by hand."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.errors import UsageError
from mtlbook.layers.dropout import Dropout, reproducible
from mtlbook.layers.schedule import advance
from mtlbook.sharing.hard import HardSharing, separate_networks

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "price": F.mse_loss,
    "kind": F.cross_entropy,
    "sold": F.binary_cross_entropy_with_logits,
}

pytestmark = pytest.mark.usefixtures("double")


def stages():
    return [
        nn.Sequential(nn.Linear(5, 6), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 4), nn.Tanh()),
    ]


def heads():
    return {"price": nn.Linear(4, 2), "kind": nn.Linear(4, 3), "sold": nn.Linear(4, 1)}


def batch(rows=12):
    targets = {
        "price": torch.randn(rows, 2),
        "kind": torch.randint(3, (rows,)),
        "sold": torch.randint(2, (rows, 1)).double(),
    }
    return torch.randn(rows, 5), targets


def losses(model, x, targets):
    predictions = model(x)
    return {name: loss(predictions[name], targets[name]) for name, loss in LOSSES.items()}


def test_branching_at_the_input_is_separate_networks_trained_apart():
    shared = separate_networks(stages, heads())
    apart = {
        name: nn.Sequential(deepcopy(shared.branches[name]), deepcopy(shared.heads[name]))
        for name in LOSSES
    }
    together = torch.optim.Adam(shared.parameters(), lr=0.01)
    alone = {name: torch.optim.Adam(one.parameters(), lr=0.01) for name, one in apart.items()}
    for _ in range(20):
        x, targets = batch()
        together.zero_grad()
        torch.stack(list(losses(shared, x, targets).values())).sum().backward()
        for name, loss in LOSSES.items():
            own = apart[name]
            alone[name].zero_grad()
            loss(own(x), targets[name]).backward()
            both = nn.Sequential(shared.branches[name], shared.heads[name])
            for mine, theirs in zip(both.parameters(), own.parameters(), strict=True):
                assert mine.grad is not None
                assert theirs.grad is not None
                assert torch.equal(mine.grad, theirs.grad)
            alone[name].step()
        together.step()
    x, _ = batch()
    for name in LOSSES:
        assert torch.equal(shared(x)[name], apart[name](x))


def test_sharing_all_layers_is_caruanas_network():
    """One sigmoid layer and an output a task, with back-propagation written out by hand."""
    names = ("first", "second", "third")
    model = HardSharing(
        lambda: [nn.Linear(5, 4), nn.Sigmoid()], {name: nn.Linear(4, 1) for name in names}
    )
    x, y = torch.randn(7, 5), torch.randn(7, 3)
    hidden = model.trunk[0]
    assert isinstance(hidden, nn.Linear)
    # The output layer of all tasks as one matrix: (tasks, hidden).
    own_heads = [model.heads[name] for name in names]
    out = torch.cat([head.weight for head in own_heads if isinstance(head, nn.Linear)])
    bias = torch.cat([head.bias for head in own_heads if isinstance(head, nn.Linear)])

    h = 1 / (1 + torch.exp(-(x @ hidden.weight.T + hidden.bias)))
    y_hat = h @ out.T + bias
    predictions = model(x)
    for number, name in enumerate(names):
        torch.testing.assert_close(predictions[name][:, 0], y_hat[:, number])

    delta_out = 2 * (y_hat - y) / len(x)
    delta_hidden = (delta_out @ out) * h * (1 - h)
    total = torch.stack(
        [F.mse_loss(predictions[name], y[:, n : n + 1]) for n, name in enumerate(names)]
    ).sum()
    total.backward()
    torch.testing.assert_close(hidden.weight.grad, delta_hidden.T @ x)
    torch.testing.assert_close(hidden.bias.grad, delta_hidden.sum(0))
    for head, own in zip(own_heads, delta_out.T @ h, strict=True):
        torch.testing.assert_close(head.weight.grad, own.unsqueeze(0))


def test_a_branch_gets_the_gradient_of_its_own_task_and_the_trunk_of_all():
    model = HardSharing(stages, heads(), branch_at=1)
    x, targets = batch()
    own = losses(model, x, targets)
    trunk = list(model.trunk.parameters())
    of_each = [torch.autograd.grad(loss, trunk, retain_graph=True) for loss in own.values()]
    of_all = torch.autograd.grad(torch.stack(list(own.values())).sum(), trunk, retain_graph=True)
    for total, *parts in zip(of_all, *of_each, strict=True):
        torch.testing.assert_close(total, torch.stack(parts).sum(0))
        assert all(bool(part.abs().max() > 0) for part in parts)
    others = [p for name in ("kind", "sold") for p in model.branches[name].parameters()]
    assert torch.autograd.grad(own["price"], others, allow_unused=True) == (None,) * len(others)


@given(branch_at=st.integers(0, 3), tasks=st.integers(1, 4))
def test_sharing_a_stage_saves_its_parameters_for_all_tasks_but_one(branch_at, tasks):
    def layers():
        return [nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2)]

    sizes = [3 * 5 + 5, 5 * 4 + 4, 4 * 2 + 2]
    regressions = {f"task_{number}": nn.Linear(2, 1) for number in range(tasks)}
    model = HardSharing(layers, regressions, branch_at=branch_at)
    wanted = sum(sizes[:branch_at]) + tasks * (sum(sizes[branch_at:]) + 3)
    assert sum(p.numel() for p in model.parameters()) == wanted


@pytest.mark.parametrize("same_start", [False, True])
def test_branches_start_apart_or_alike(same_start):
    x, _ = batch()
    model = separate_networks(stages, heads(), same_start=same_start)
    first, *others = (model.branches[name](x) for name in LOSSES)
    assert all(torch.equal(first, other) == same_start for other in others)
    owned = [parameter for branch in model.branches.values() for parameter in branch.parameters()]
    assert len({id(parameter) for parameter in owned}) == len(owned) == 3 * 4


@pytest.mark.parametrize("branch_at", [0, 1, 2])
def test_each_branch_is_a_call_of_its_own_in_the_order_of_the_heads(branch_at):
    """Nothing else is drawn, so that a user knows which numbers go where."""
    made = []

    def recorded():
        made.append(stages())
        return made[-1]

    own_heads = heads()
    before = torch.random.get_rng_state()
    model = HardSharing(recorded, own_heads, branch_at=branch_at)
    after = torch.random.get_rng_state()
    assert list(model.trunk) == made[0][:branch_at]
    assert len(made) == (1 if branch_at == 2 else 3)
    for own, branch in zip(made, model.branches.values(), strict=False):
        assert list(branch.children()) == own[branch_at:]
    torch.random.set_rng_state(before)
    for _ in made:
        stages()
    assert torch.equal(torch.random.get_rng_state(), after)


class Scaled(nn.Module):
    """Its parameter is drawn, and nothing resets it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(()))


@pytest.mark.parametrize(
    ("layer", "drawn"),
    [(lambda: nn.MultiheadAttention(4, 2), "0.in_proj_weight"), (Scaled, "0.scale")],
)
def test_every_parameter_of_a_branch_is_drawn_anew(layer, drawn):
    model = separate_networks(lambda: [layer()], heads())
    first, *others = (branch.get_parameter(drawn) for branch in model.branches.values())
    assert not any(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("same_start", [False, True])
@pytest.mark.parametrize("dropout", [nn.Dropout, Dropout])
def test_branches_do_not_share_their_dropout_masks(same_start, dropout):
    model = separate_networks(lambda: [dropout(0.5)], heads(), same_start=same_start)
    reproducible(model, seed=0)
    advance(model, 0.0)
    masks = [branch(torch.ones(2000)) != 0 for branch in model.branches.values()]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        agreement = float((masks[first] == masks[second]).double().mean())
        assert agreement == pytest.approx(0.5, abs=0.05)


def test_the_state_of_a_network_is_that_of_its_stages_and_heads():
    model = HardSharing(stages, heads(), branch_at=1)
    plain = nn.Sequential(*stages(), nn.Linear(4, 2))
    parts = nn.Sequential(*model.trunk, *model.branches["price"].children(), model.heads["price"])
    parts.load_state_dict(plain.state_dict())
    x, _ = batch()
    assert torch.equal(model(x)["price"], plain(x))


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("branch_at", [-1, 3])
def test_a_branch_outside_of_the_network_is_refused(branch_at):
    with pytest.raises(UsageError, match="choose 0 to 2"):
        HardSharing(stages, heads(), branch_at=branch_at)


def test_a_network_without_heads_is_refused():
    with pytest.raises(UsageError, match="at least one head"):
        HardSharing(stages, {})


def test_layers_that_would_be_shared_by_accident_are_refused():
    layers = stages()
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        HardSharing(lambda: layers, heads(), branch_at=1)
    HardSharing(lambda: [layers[0], stages()[1]], heads(), branch_at=1)


def test_calls_that_make_different_numbers_of_stages_are_refused():
    depths = iter([2, 1, 2])
    with pytest.raises(UsageError, match=r"\[2, 1, 2\] stages"):
        separate_networks(lambda: stages()[: next(depths)], heads())


def test_layers_in_place_of_a_function_are_refused():
    with pytest.raises(UsageError, match="not the layers themselves"):
        HardSharing(nn.Sequential(*stages()), heads())
