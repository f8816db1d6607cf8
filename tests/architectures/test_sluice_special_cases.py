"""Each special case against the older method itself: its own module, or its equations by hand."""

import pytest
import torch
from torch import Tensor, nn

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.architectures.sluice_special_cases import (
    Sharing,
    cross_stitch,
    hard_sharing,
    low_supervision,
    private_and_shared,
    separate_networks,
)
from mtlbook.book.experiments.sluices import PrivateAndShared
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.hard import separate_networks as separately
from tests.equal import exactly

NAMES = ("chunk", "pos", "ner", "srl", "parse", "topic")
DEPTH, UNITS = 3, 6

pytestmark = pytest.mark.usefixtures("double")


def stages() -> list[nn.Module]:
    widths = [5, *[UNITS] * (DEPTH - 1)]
    return [nn.Sequential(nn.Linear(width, UNITS), nn.Tanh()) for width in widths]


def heads(tasks: int) -> dict[str, nn.Module]:
    return {name: nn.Linear(UNITS, 2) for name in NAMES[:tasks]}


def sluice(tasks: int, sharing: Sharing, subspaces: int) -> Sluice:
    model = Sluice(stages, heads(tasks), subspaces=subspaces)
    model.set_sharing(*sharing)
    return model


def stage_of(model: Sluice, task: str, place: int) -> nn.Module:
    return model.get_submodule(f"columns.{task}.{place}")


def inputs() -> Tensor:
    return torch.randn(7, 5, generator=generator(0, "inputs"))


def same_heads(model: Sluice, reference: nn.Module) -> None:
    reference.get_submodule("heads").load_state_dict(model.heads.state_dict())


def agree(model: Sluice, reference: nn.Module) -> None:
    x = inputs()
    found, expected = model(x), reference(x)
    assert list(found) == list(expected)
    for name, prediction in found.items():
        exactly(prediction, expected[name])


@pytest.mark.parametrize("subspaces", [1, 2, 3])
@pytest.mark.parametrize("tasks", [2, 6])
def test_separate_networks(tasks, subspaces):
    model = sluice(tasks, separate_networks(tasks, DEPTH, subspaces), subspaces)
    reference = separately(stages, heads(tasks))
    same_heads(model, reference)
    reference.branches.load_state_dict(model.columns.state_dict())
    agree(model, reference)


@pytest.mark.parametrize("shared", [0, 1, 2, 3])
@pytest.mark.parametrize("subspaces", [1, 2])
@pytest.mark.parametrize("tasks", [2, 6])
def test_hard_sharing(tasks, subspaces, shared):
    model = sluice(tasks, hard_sharing(tasks, DEPTH, subspaces, shared=shared), subspaces)
    reference = HardSharing(stages, heads(tasks), branch_at=shared)
    same_heads(model, reference)
    for place, stage in enumerate(reference.trunk):
        stage.load_state_dict(stage_of(model, NAMES[0], place).state_dict())
    for name, branch in reference.branches.items():
        for place, stage in enumerate(branch.children(), start=shared):
            stage.load_state_dict(stage_of(model, name, place).state_dict())
    agree(model, reference)


def test_hard_sharing_shares_all_by_default():
    whole, all_stages = hard_sharing(2, DEPTH), hard_sharing(2, DEPTH, shared=DEPTH)
    assert torch.equal(whole.alpha, all_stages.alpha)


@pytest.mark.parametrize("subspaces", [1, 2, 3])
@pytest.mark.parametrize("tasks", [2, 6])
def test_cross_stitch(tasks, subspaces):
    reference = CrossStitch(stages, heads(tasks))
    for place, unit in enumerate(reference.mixing):
        with torch.no_grad():
            unit.copy_(torch.randn(tasks, tasks, generator=generator(place, "units")))
    model = sluice(tasks, cross_stitch(list(reference.mixing), subspaces), subspaces)
    same_heads(model, reference)
    reference.columns.load_state_dict(model.columns.state_dict())
    agree(model, reference)


@pytest.mark.parametrize("subspaces", [1, 2])
@pytest.mark.parametrize("levels", [[3, 1], [1, 2, 3, 1, 2, 3]])
def test_low_supervision(levels, subspaces):
    model = sluice(len(levels), low_supervision(levels, DEPTH, subspaces), subspaces)
    at: dict[str, int] = dict(zip(NAMES, levels, strict=False))
    reference = LowSupervision(stages, heads(len(levels)), at=at)
    same_heads(model, reference)
    reference.layers.load_state_dict(model.columns[NAMES[0]].state_dict())
    agree(model, reference)
    exactly(model.beta, reference.supervised)


@pytest.mark.parametrize("subspaces", [2, 3])
@pytest.mark.parametrize("tasks", [2, 6])
def test_private_and_shared(tasks, subspaces):
    """Where column 1's shared units do not read its private ones, at any depth."""
    model = sluice(tasks, private_and_shared(tasks, DEPTH, subspaces), subspaces)
    size = UNITS // subspaces
    with torch.no_grad():
        for place in range(1, DEPTH):
            stage_of(model, NAMES[0], place).get_parameter("0.weight")[:size, size:] = 0.0
    agree(model, PrivateAndShared(model, UNITS))


def test_without_zeros_in_its_weights_only_the_first_layer_is_private_and_shared():
    model = sluice(2, private_and_shared(2, DEPTH), 2)
    x = inputs()
    reference = PrivateAndShared(model, UNITS)(x)
    assert not torch.allclose(model(x)["pos"], reference["pos"])
    with torch.no_grad():
        before = model(x)["pos"]
        stage_of(model, "chunk", 0).get_parameter("0.weight")[UNITS // 2 :] += 1.0  # A's own
        assert not torch.allclose(model(x)["pos"], before)


def test_daumes_augmented_features():
    """Linear models on [x, x_t]: the weights of all domains plus the domain's own (Daumé, 2007)."""

    class Copies(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], 1)

    weights = {name: nn.Linear(10, 1, bias=False) for name in NAMES[:3]}
    common = torch.randn(5, generator=generator(0, "common"))
    with torch.no_grad():
        for head in weights.values():
            head.weight[0, :5] = common
    model = Sluice(lambda: [Copies()], weights)
    model.set_sharing(*private_and_shared(3, 1))
    x = inputs()
    for number, name in enumerate(weights):
        own = weights[name].weight[0, 5:]
        augmented = torch.cat([x, *[x if number == task else 0 * x for task in range(3)]], 1)
        every = [head.weight[0, 5:] for head in weights.values()]
        exactly(model(x)[name][:, 0], augmented @ torch.cat([common, *every]))
        exactly(model(x)[name][:, 0], x @ (common + own))


def test_equal_rows_give_every_task_the_same_representation():
    model = Sluice(stages, {name: nn.Identity() for name in NAMES[:3]})
    row = torch.randn(1, 6, generator=generator(0, "row"))
    beta = torch.tensor([[0.2, 0.3, 0.5]]).expand(3, 3)
    model.set_sharing([row.expand(6, 6)] * DEPTH, beta)
    first, *others = model(inputs()).values()
    for other in others:
        exactly(other, first)


def test_impossible_cases_are_refused():
    with pytest.raises(UsageError, match="choose 0 to 3, not 4"):
        hard_sharing(2, 3, shared=4)
    with pytest.raises(UsageError, match=r"layer 1 to 3, not from \[0, 3\]"):
        low_supervision([0, 3], 3)
    with pytest.raises(UsageError, match="at least two"):
        private_and_shared(2, 3, 1)
