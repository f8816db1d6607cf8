"""Hard sharing: its two ends against separate networks and against Caruana's network by hand."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlbook.errors import UsageError
from mtlbook.sharing.hard import HardSharing, separate_networks
from mtlbook.tasks import Task

TASKS = [Task.regression("price", outputs=2), Task.classification("kind", 3), Task.binary("sold")]


pytestmark = pytest.mark.usefixtures("double")


def stages():
    return [
        nn.Sequential(nn.Linear(5, 6), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 4), nn.Tanh()),
    ]


def batch(rows=12):
    targets = {
        "price": torch.randn(rows, 2),
        "kind": torch.randint(3, (rows,)),
        "sold": torch.randint(2, (rows, 1)).double(),
    }
    return torch.randn(rows, 5), targets


def losses(model, x, targets):
    predictions = model(x)
    return {t.name: t.loss(predictions[t.name], targets[t.name]).mean() for t in TASKS}


def test_branching_at_the_input_is_separate_networks_trained_apart():
    shared = separate_networks(stages(), TASKS, width=4)
    apart = {
        task.name: nn.Sequential(
            deepcopy(shared.branches[task.name]), deepcopy(shared.heads[task.name])
        )
        for task in TASKS
    }
    together = torch.optim.Adam(shared.parameters(), lr=0.01)
    alone = {name: torch.optim.Adam(one.parameters(), lr=0.01) for name, one in apart.items()}
    for _ in range(20):
        x, targets = batch()
        together.zero_grad()
        torch.stack(list(losses(shared, x, targets).values())).sum().backward()
        for task in TASKS:
            own = apart[task.name]
            alone[task.name].zero_grad()
            task.loss(own(x), targets[task.name]).mean().backward()
            both = nn.Sequential(shared.branches[task.name], shared.heads[task.name])
            for mine, theirs in zip(both.parameters(), own.parameters(), strict=True):
                assert mine.grad is not None
                assert theirs.grad is not None
                assert torch.equal(mine.grad, theirs.grad)
            alone[task.name].step()
        together.step()
    x, _ = batch()
    for task in TASKS:
        assert torch.equal(shared(x)[task.name], apart[task.name](x))


def test_sharing_all_layers_is_caruanas_network():
    """One sigmoid layer and an output a task, with back-propagation written out by hand."""
    tasks = [Task.regression(name) for name in ("first", "second", "third")]
    model = HardSharing([nn.Linear(5, 4), nn.Sigmoid()], tasks, width=4)
    x, y = torch.randn(7, 5), torch.randn(7, 3)
    hidden = model.trunk[0]
    assert isinstance(hidden, nn.Linear)
    # The output layer of all tasks as one matrix: (tasks, hidden).
    heads = [model.heads[task.name] for task in tasks]
    out = torch.cat([head.weight for head in heads if isinstance(head, nn.Linear)])
    bias = torch.cat([head.bias for head in heads if isinstance(head, nn.Linear)])

    h = 1 / (1 + torch.exp(-(x @ hidden.weight.T + hidden.bias)))
    y_hat = h @ out.T + bias
    predictions = model(x)
    for number, task in enumerate(tasks):
        torch.testing.assert_close(predictions[task.name][:, 0], y_hat[:, number])

    delta_out = 2 * (y_hat - y) / len(x)
    delta_hidden = (delta_out @ out) * h * (1 - h)
    total = torch.stack(
        [t.loss(predictions[t.name], y[:, n : n + 1]).mean() for n, t in enumerate(tasks)]
    ).sum()
    total.backward()
    torch.testing.assert_close(hidden.weight.grad, delta_hidden.T @ x)
    torch.testing.assert_close(hidden.bias.grad, delta_hidden.sum(0))
    for head, own in zip(heads, delta_out.T @ h, strict=True):
        torch.testing.assert_close(head.weight.grad, own.unsqueeze(0))


def test_a_branch_hears_its_own_task_only_and_the_trunk_hears_all():
    model = HardSharing(stages(), TASKS, width=4, branch_at=1)
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
    layers = [nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2)]
    sizes = [3 * 5 + 5, 5 * 4 + 4, 4 * 2 + 2]
    regressions = [Task.regression(f"task_{number}") for number in range(tasks)]
    model = HardSharing(layers, regressions, width=2, branch_at=branch_at)
    wanted = sum(sizes[:branch_at]) + tasks * (sum(sizes[branch_at:]) + 3)
    assert sum(p.numel() for p in model.parameters()) == wanted


def test_branches_start_apart_or_alike():
    x, _ = batch()
    for same_start in (False, True):
        model = HardSharing(stages(), TASKS, width=4, branch_at=0, same_start=same_start)
        first, *others = (model.branches[task.name](x) for task in TASKS)
        assert all(torch.equal(first, other) == same_start for other in others)


def test_a_head_of_the_users_own():
    model = HardSharing(
        stages(),
        TASKS,
        width=4,
        head=lambda width, task: nn.Sequential(nn.ReLU(), nn.Linear(width, task.outputs)),
    )
    x, _ = batch(rows=3)
    assert {name: p.shape for name, p in model(x).items()} == {
        task.name: (3, task.outputs) for task in TASKS
    }


@pytest.mark.parametrize("branch_at", [-1, 3])
def test_a_branch_outside_of_the_network_is_refused(branch_at):
    with pytest.raises(UsageError, match="choose 0 to 2"):
        HardSharing(stages(), TASKS, width=4, branch_at=branch_at)
