from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing, separate_networks
from tests.equal import exactly

# One task is called as the shared experts are.
NAMES = ("views", "likes", "shares", "comments", "shared", "follows")
WIDTHS = (5, 6, 4, 3)

pytestmark = pytest.mark.usefixtures("double")


def stages_of(levels: int) -> Callable[[], list[nn.Module]]:
    """A dense layer a level; the last one gives 4 features."""
    widths = [*WIDTHS[:levels], 4]
    return lambda: [
        nn.Sequential(nn.Linear(below, above), nn.Tanh()) for below, above in pairwise(widths)
    ]


def network(tasks: int = 2, levels: int = 2, **options: Any) -> ProgressiveLayeredExtraction:
    heads = {name: nn.Linear(4, 2) for name in NAMES[:tasks]}
    settings: dict[str, Any] = {"inputs": list(WIDTHS[:levels])} | options
    return ProgressiveLayeredExtraction(stages_of(levels), heads, **settings)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def rows() -> Tensor:
    return random(7, 5)


def gradients(predictions: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    loss = torch.stack([made.square().sum() for made in predictions.values()]).sum()
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def own_experts(model: ProgressiveLayeredExtraction, name: str) -> list[nn.Sequential]:
    experts = model.own[name]
    assert isinstance(experts, nn.ModuleList)
    return [expert for expert in experts if isinstance(expert, nn.Sequential)]


def shared_experts(model: ProgressiveLayeredExtraction) -> list[nn.Sequential]:
    return [expert for expert in model.shared if isinstance(expert, nn.Sequential)]


def by_loop(model: ProgressiveLayeredExtraction, x: Tensor) -> dict[str, Tensor]:
    """The paper's levels, example by example and expert by expert."""
    levels = len(model.task_gates)
    paths = {name: list(x) for name in model.heads}
    common = list(x)
    for level in range(levels):
        new_paths: dict[str, list[Tensor]] = {name: [] for name in model.heads}
        new_common = []
        for n in range(len(x)):
            of_all = [expert[level](common[n]) for expert in shared_experts(model)]
            of_tasks = {
                name: [expert[level](paths[name][n]) for expert in own_experts(model, name)]
                for name in model.heads
            }
            for name in model.heads:
                gate = model.task_gates[level].get_submodule(name)
                new_paths[name].append(weighted(gate, paths[name][n], of_tasks[name] + of_all))
            if level < levels - 1 and of_all:
                every = [one for own in of_tasks.values() for one in own] + of_all
                new_common.append(weighted(model.shared_gates[level], common[n], every))
        paths, common = new_paths, new_common
    return {name: head(torch.stack(paths[name])) for name, head in model.heads.items()}


def weighted(gate: nn.Module, selector: Tensor, computed: list[Tensor]) -> Tensor:
    powers = [score.exp() for score in gate(selector)]
    total = torch.stack(powers).sum()
    terms = [power / total * own for power, own in zip(powers, computed, strict=True)]
    return torch.stack(terms).sum(0)


# The formula --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("own", "shared"), [(1, 1), (2, 3), (0, 2), (2, 0)])
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("tasks", [2, 6])
def test_the_network_is_the_loop_over_levels_examples_and_experts(tasks, levels, own, shared, bias):
    model = network(tasks, levels, own=own, shared=shared, bias=bias)
    found, looped = model(rows()), by_loop(model, rows())
    assert list(found) == list(NAMES[:tasks])
    for name in found:
        exactly(found[name], looped[name])
    parameters = list(model.parameters())
    pairs = zip(gradients(found, parameters), gradients(looped, parameters), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_one_level_by_hand():
    """Customised gate control: equations 2 to 5 of the paper."""
    model, x = network(levels=1, own=1, shared=1), rows()
    a, b = own_experts(model, "views")[0](x), model.shared[0](x)
    scores = x @ model.task_gates[0].get_parameter("views.weight").T
    w = scores.exp() / scores.exp().sum(1, keepdim=True)
    exactly(model.gates(x)[0]["views"], w)
    exactly(model(x)["views"], model.heads["views"](w[:, :1] * a + w[:, 1:] * b))


def test_gates_above_the_first_level_read_the_tasks_own_mixture():
    model, x = network(levels=2, own=1, shared=2), rows()
    first, second = model.gates(x)
    below = [
        own_experts(model, "likes")[0][0](x),
        *(expert[0](x) for expert in shared_experts(model)),
    ]
    mixed = (first["likes"].T.unsqueeze(-1) * torch.stack(below)).sum(0)
    exactly(second["likes"], model.task_gates[1].get_submodule("likes")(mixed).softmax(1))


# Limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [2, 6])
def test_one_level_without_own_experts_is_the_multi_gate_mixture(tasks):
    model = network(tasks, levels=1, own=0, shared=3)
    mixture = MixtureOfExperts(
        stages_of(1), {name: nn.Linear(4, 2) for name in NAMES[:tasks]}, inputs=5, experts=3
    )
    mixture.experts.load_state_dict(model.shared.state_dict())
    mixture.heads.load_state_dict(model.heads.state_dict())
    gates: list[Tensor] = [
        model.task_gates[0].get_parameter(f"{name}.weight") for name in NAMES[:tasks]
    ]
    with torch.no_grad():
        mixture.gate.weight.copy_(torch.cat(gates))
    found, expected = model(rows()), mixture(rows())
    for name in found:
        exactly(found[name], expected[name])
    for mine, theirs in (
        (model.shared.parameters(), mixture.experts.parameters()),
        (model.heads.parameters(), mixture.heads.parameters()),
    ):
        pairs = gradients(model(rows()), list(mine)), gradients(mixture(rows()), list(theirs))
        for first, second in zip(*pairs, strict=True):
            exactly(first, second)
    of_gates = torch.cat(gradients(model(rows()), gates))
    exactly(of_gates, gradients(mixture(rows()), [mixture.gate.weight])[0])


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("tasks", [2, 6])
def test_without_shared_experts_the_networks_are_separate(tasks, levels):
    model = network(tasks, levels, own=1, shared=0)
    columns = iter([list(own_experts(model, name)[0]) for name in NAMES[:tasks]])
    separate = separate_networks(lambda: next(columns), dict(model.heads.items()))
    found, expected = model(rows()), separate(rows())
    for name in found:
        exactly(found[name], expected[name])
    parameters = list(separate.parameters())
    pairs = zip(gradients(found, parameters), gradients(expected, parameters), strict=True)
    for mine, theirs in pairs:
        exactly(mine, theirs)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_several_own_experts_and_no_shared_ones_leave_the_tasks_apart(levels):
    model = network(2, levels, own=3, shared=0)
    gate = model.task_gates[0].get_submodule("likes")
    others = [*model.own["likes"].parameters(), *gate.parameters()]
    views = {"views": model(rows())["views"]}
    assert not any(bool(own.any()) for own in gradients(views, others))


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("tasks", [2, 6])
def test_one_shared_expert_alone_is_hard_parameter_sharing(tasks, levels):
    model = network(tasks, levels, own=0, shared=1)
    layers = list(shared_experts(model)[0])
    hard = HardSharing(lambda: layers, dict(model.heads.items()))
    found, expected = model(rows()), hard(rows())
    for name in found:
        exactly(found[name], expected[name])
    parameters = list(hard.parameters())
    pairs = zip(gradients(found, parameters), gradients(expected, parameters), strict=True)
    for mine, theirs in pairs:
        exactly(mine, theirs)


@pytest.mark.parametrize("levels", [1, 2])
def test_no_gradient_reaches_another_tasks_experts_in_the_last_level(levels):
    """Below it does: the shared path mixes the experts of all."""
    model = network(2, levels, own=2, shared=1)
    for level in range(levels):
        others = [p for own in own_experts(model, "likes") for p in own[level].parameters()]
        reached = gradients({"views": model(rows())["views"]}, others)
        assert any(bool(own.any()) for own in reached) == (level < levels - 1)


@pytest.mark.parametrize(("levels", "shared", "gates"), [(1, 1, 0), (3, 1, 2), (3, 0, 0)])
def test_the_last_level_has_no_shared_gate_and_every_parameter_learns(levels, shared, gates):
    model = network(2, levels, own=2, shared=shared)
    assert len(model.shared_gates) == gates
    parameters = dict(model.named_parameters())
    reached = gradients(model(rows()), list(parameters.values()))
    for name, own in zip(parameters, reached, strict=True):
        assert bool(own.any()), name


# Cost, shapes, and all seeds at once --------------------------------------------------------------


def test_cost_in_parameters_and_operations_with_the_gates_counted():
    model, count = network(2, levels=2, own=1, shared=2), 7
    experts, gates = 4 * (5 * 6 + 6 * 4), 2 * 3 * 5 + 2 * 3 * 6 + 4 * 5
    assert sum(p.numel() for p in model.parameters()) == experts + 4 * (6 + 4) + gates + 2 * 10
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(rows())
    mixtures = 2 * 3 * 6 + 4 * 6 + 2 * 3 * 4
    assert counter.get_total_flops() == 2 * count * (experts + gates + mixtures + 2 * 4 * 2)


def test_convolutional_experts_keep_their_places():
    """Gates read all numbers of an example; what they mix are whole feature maps."""
    model = ProgressiveLayeredExtraction(
        lambda: [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)],
        {"depth": nn.Conv2d(4, 1, 1), "normals": nn.Conv2d(4, 2, 1)},
        inputs=[2 * 6 * 6, 3 * 6 * 6],
    )
    found = model(random(3, 2, 6, 6))
    assert {name: tuple(own.shape) for name, own in found.items()} == {
        "depth": (3, 1, 6, 6),
        "normals": (3, 2, 6, 6),
    }


@pytest.mark.parametrize("levels", [1, 2])
def test_replicas_all_at_once_equal_one_after_another(levels):
    models = [network(3, levels) for _ in range(3)]
    parameters, _ = stack_module_state(models)
    x = random(3, 7, 5)

    def loss(own: dict[str, Tensor], given: Tensor) -> Tensor:
        predicted = functional_call(models[0], own, (given,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, x)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"own": 0, "shared": 0}, "give it at least one"),
        ({"own": -1}, "none below 0"),
        ({"inputs": [5]}, "1 numbers of inputs for experts of 2 stages"),
        ({"inputs": [5, 0]}, "at least 1, not 0"),
        ({"tasks": 0}, "at least one head"),
    ],
)
def test_impossible_dials_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        network(**options)


def test_experts_that_are_one_or_of_different_depths_are_refused():
    layers, heads = stages_of(1)(), {"a": nn.Identity()}
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        ProgressiveLayeredExtraction(lambda: layers, heads, inputs=[5])
    depths = iter([1, 2])
    with pytest.raises(UsageError, match="the same number"):
        ProgressiveLayeredExtraction(lambda: stages_of(next(depths))(), heads, inputs=[5])
    with pytest.raises(UsageError, match="at least one"):
        ProgressiveLayeredExtraction(list, heads, inputs=[])


def test_experts_of_unequal_outputs_and_other_widths_are_refused():
    widths = iter([4, 3])
    model = ProgressiveLayeredExtraction(
        lambda: [nn.Linear(5, next(widths))], {"a": nn.Identity()}, inputs=[5]
    )
    with pytest.raises(UsageError, match=r"different shapes, \[\(4,\), \(3,\)\]"):
        model(rows())
    with pytest.raises(UsageError, match="for 7 numbers meets examples of 6"):
        network(inputs=[5, 7])(rows())
