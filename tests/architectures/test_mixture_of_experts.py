from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from mtlbook.architectures.mixture_of_experts import (
    MixtureOfExperts,
    effective_experts,
    mixture,
    without_some,
)
from mtlbook.errors import UsageError
from mtlbook.layers.dropout import reproducible
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing, separate_networks
from tests.equal import exactly

NAMES = ("income", "marital", "education", "hours", "sector", "age")
INPUTS = {"dense": 5, "convolutional": 2 * 6 * 6}

pytestmark = pytest.mark.usefixtures("double")


def dense() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(5, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 4), nn.ReLU())]


def convolutional() -> list[nn.Module]:
    return [nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2))]


def network(
    tasks: int = 2, stages: Callable[[], Sequence[nn.Module]] = dense, **options: Any
) -> MixtureOfExperts:
    torch.manual_seed(0)
    layer = nn.Linear if stages is dense else partial(nn.Conv2d, kernel_size=1)
    heads = {name: layer(4, 2) for name in NAMES[:tasks]}
    settings: dict[str, Any] = {"inputs": INPUTS[stages.__name__], "experts": 3} | options
    return MixtureOfExperts(stages, heads, **settings)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def rows(stages: Callable[[], Sequence[nn.Module]] = dense) -> Tensor:
    return random(7, 5) if stages is dense else random(3, 2, 6, 6)


def gradients(predictions: dict[str, Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    loss = torch.stack([made.square().sum() for made in predictions.values()]).sum()
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def set_gates(model: MixtureOfExperts, weights: Tensor, bias: Tensor | None = None) -> None:
    with torch.no_grad():
        model.gate.weight.copy_(weights)
        if bias is not None:
            model.gate.bias.copy_(bias)


def expert_of(model: MixtureOfExperts, number: int) -> nn.Sequential:
    expert = model.experts[number]
    assert isinstance(expert, nn.Sequential)
    return expert


def by_loop(model: MixtureOfExperts, x: Tensor, multi_gate: bool) -> dict[str, Tensor]:
    """Equations 6 and 7 of the paper, task by task, example by example, expert by expert."""
    predicted: dict[str, Tensor] = {}
    for number, (name, head) in enumerate(model.heads.items()):
        gate = number if multi_gate else 0
        features = []
        for example in x:
            scores = [weights @ example.flatten() for weights in model.gate_weights[gate]]
            if model.gate.bias is not None:
                own = model.gate.bias.view(-1, len(model.experts))[gate]
                scores = [score + shift for score, shift in zip(scores, own, strict=True)]
            powers = [score.exp() for score in scores]
            total = torch.stack(powers).sum()
            terms = [
                power / total * expert(example[None])[0]
                for power, expert in zip(powers, model.experts, strict=True)
            ]
            features.append(torch.stack(terms).sum(0))
        predicted[name] = head(torch.stack(features))
    return predicted


# The formula --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("multi_gate", [False, True])
@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("tasks", [1, 2, 6])
def test_the_network_is_the_loop_over_tasks_examples_and_experts(tasks, stages, multi_gate, bias):
    model = network(tasks, stages, multi_gate=multi_gate, bias=bias)
    x = rows(stages)
    found, looped = model(x), by_loop(model, x, multi_gate)
    assert list(found) == list(NAMES[:tasks])
    for name in found:
        exactly(found[name], looped[name])
    parameters = list(model.parameters())
    pairs = zip(gradients(found, parameters), gradients(looped, parameters), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 100))
def test_a_mixture_is_the_weighted_sum(tasks, experts, seed):
    draw = partial(torch.randn, generator=generator(seed, "mixture"))
    gates, computed = draw(3, tasks, experts).softmax(-1), draw(3, experts, 2, 2)
    expected = torch.einsum("nke,enij->knij", gates, computed.transpose(0, 1))
    torch.testing.assert_close(mixture(gates, computed), expected)


def test_the_gates_are_those_of_the_prediction_and_add_up_to_one():
    model, x = network(2), rows()
    gates = model.gates(x)
    computed = torch.stack([expert(x) for expert in model.experts], dim=1)
    for name, prediction in model(x).items():
        exactly(gates[name].sum(1), torch.ones(7))
        exactly(prediction, model.heads[name]((gates[name].unsqueeze(-1) * computed).sum(1)))


# Limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multi_gate", [False, True])
@pytest.mark.parametrize("tasks", [2, 6])
def test_one_expert_is_hard_parameter_sharing(tasks, multi_gate):
    model = network(tasks, experts=1, multi_gate=multi_gate)
    layers = list(expert_of(model, 0))
    shared = HardSharing(lambda: layers, dict(model.heads.items()))
    found, expected = model(rows()), shared(rows())
    parameters = list(shared.parameters())
    for name in found:
        exactly(found[name], expected[name])
    pairs = zip(gradients(found, parameters), gradients(expected, parameters), strict=True)
    for mine, theirs in pairs:
        exactly(mine, theirs)
    assert not bool(gradients(model(rows()), [model.gate.weight])[0].any())


@pytest.mark.parametrize("tasks", [2, 6])
def test_equal_gates_are_one_gate(tasks):
    many, one = network(tasks), network(tasks, multi_gate=False)
    one.experts.load_state_dict(many.experts.state_dict())
    one.heads.load_state_dict(many.heads.state_dict())
    set_gates(many, one.gate.weight.detach().repeat(tasks, 1))
    found, expected = many(rows()), one(rows())
    for name in found:
        exactly(found[name], expected[name])
    of_many = gradients(found, [many.gate.weight])[0].unflatten(0, (tasks, 3))
    exactly(of_many.sum(0), gradients(expected, [one.gate.weight])[0])


@pytest.mark.parametrize("tasks", [2, 6])
def test_without_gate_weights_the_experts_are_averaged(tasks):
    model = network(tasks)
    set_gates(model, torch.zeros_like(model.gate.weight))
    mean = torch.stack([expert(rows()) for expert in model.experts]).mean(0)
    for name, prediction in model(rows()).items():
        exactly(prediction, model.heads[name](mean))


@pytest.mark.parametrize("tasks", [2, 6])
def test_a_bias_at_infinity_gives_separate_networks(tasks):
    """Each gate picks the expert of its task's number, and no gradient reaches the others."""
    model = network(tasks, experts=tasks, bias=True)
    picks = torch.where(torch.eye(tasks, dtype=torch.bool), 1e4, -1e4)
    set_gates(model, model.gate.weight.detach(), picks.flatten())
    columns = iter([list(expert_of(model, number)) for number in range(tasks)])
    separate = separate_networks(lambda: next(columns), dict(model.heads.items()))
    found, expected = model(rows()), separate(rows())
    for number, name in enumerate(found):
        exactly(found[name], expected[name])
        for other, expert in enumerate(model.experts):
            own, theirs = (
                gradients({name: made(rows())[name]}, list(expert.parameters()))
                for made in (model, separate)
            )
            for first, second in zip(own, theirs, strict=True):
                exactly(first, second)
            assert any(bool(each.any()) for each in own) == (other == number)


# The paper's gate has no bias ---------------------------------------------------------------------


@given(st.integers(0, 1_000))
def test_without_a_bias_preferences_invert_at_the_mirrored_input(seed):
    model = network(2)
    set_gates(model, torch.randn(model.gate.weight.shape, generator=generator(seed, "gate")))
    here, there = (model.gates(x) for x in (rows(), -rows()))
    for name, gate in here.items():
        product = gate[:, :, None] / gate[:, None] * there[name][:, :, None] / there[name][:, None]
        torch.testing.assert_close(product, torch.ones_like(product))


def test_without_a_bias_no_expert_is_preferred_on_average():
    """On inputs that are symmetric around 0; with a bias any preference is possible."""
    x = torch.cat([rows(), -rows()])
    plain, biased = (network(2, bias=bias).gates(x)["income"].detach() for bias in (False, True))
    exactly(plain.log().diff(dim=1).mean(0), torch.zeros(2))
    assert float(biased.log().diff(dim=1).mean(0).abs().max()) > 0.05


# Collapse, and dropout of experts -----------------------------------------------------------------


def test_effective_experts_run_from_one_to_all():
    collapsed = torch.tensor([[0.0, 1.0, 0.0]]).expand(9, 3)
    equal = torch.full((9, 3), 1 / 3)
    taken_in_turn = torch.eye(3).repeat(3, 1)
    found = effective_experts(torch.stack([collapsed, equal, taken_in_turn]))
    exactly(found, torch.tensor([1.0, 3.0, 3.0]))


def test_dropped_experts_get_nothing_and_the_rest_adds_up_to_one():
    model = network(2, experts=8, dropout=0.25)
    x = random(400, 5)
    dropped = 0.0
    for name, gates in model.gates(x).items():
        exactly(gates.sum(1), torch.ones(400))
        dropped = float((gates == 0).double().mean())
        assert 0.2 < dropped < 0.3, name
    whole = model.eval().gates(x)["income"]
    assert bool((whole > 0).all())
    exactly(whole, x.matmul(model.gate_weights[0].T).softmax(1))


def test_kept_experts_keep_their_ratios_and_nobody_is_left_without_any():
    gates = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]])
    masks = torch.tensor([[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])

    class Mask(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return masks

    found = without_some(gates, Mask())
    exactly(found, torch.tensor([[1 / 3, 2 / 3, 0.0], [0.1, 0.2, 0.7]]))


# Cost, and all seeds at once ----------------------------------------------------------------------


def test_cost_in_parameters_and_operations_with_the_gates_counted():
    model, count = network(2), 7
    expert, gate, head = (5 * 6 + 6) + (6 * 4 + 4), 2 * 3 * 5, 4 * 2 + 2
    assert sum(p.numel() for p in model.parameters()) == 3 * expert + gate + 2 * head
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(rows())
    products = 3 * (5 * 6 + 6 * 4) + 2 * 3 * 5 + 2 * 3 * 4 + 2 * 4 * 2
    assert counter.get_total_flops() == 2 * count * products


@pytest.mark.parametrize("options", [{}, {"multi_gate": False}, {"bias": True, "dropout": 0.3}])
def test_replicas_all_at_once_equal_one_after_another(options):
    """As in `fit`: predictions and gradients of all seeds by one call, experts dropped or not."""
    models = [reproducible(network(3, **options), seed) for seed in range(3)]
    for seed, model in enumerate(models):
        weights = model.get_parameter("gate.weight")
        nn.init.normal_(weights, generator=generator(seed, "gate"))
    parameters, buffers = stack_module_state(models)
    x = random(3, 7, 5)

    def loss(own: dict[str, Tensor], state: dict[str, Tensor], given: Tensor) -> Tensor:
        predicted = functional_call(models[0], (own, state), (given,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, buffers, x)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), dict(model.named_buffers()), x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


def test_a_state_dict_fits_another_model():
    first, second = network(2, bias=True), network(2, bias=True)
    nn.init.normal_(first.gate.weight)
    second.load_state_dict(first.state_dict())
    exactly(second(rows())["marital"], first(rows())["marital"])


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"experts": 0}, "at least one expert, not 0"),
        ({"tasks": 0}, "at least one head"),
        ({"inputs": 0}, "at least 1, not 0"),
        ({"dropout": 1.0}, "from 0 to below 1, not 1.0"),
        ({"dropout": -0.5}, "from 0 to below 1, not -0.5"),
    ],
)
def test_impossible_dials_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        network(**options)


def test_experts_that_are_one_or_no_function_are_refused():
    layers, heads = dense(), {"a": nn.Identity()}
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        MixtureOfExperts(lambda: layers, heads, inputs=5)
    with pytest.raises(UsageError, match="stages is a function"):
        MixtureOfExperts(nn.Sequential(*layers), heads, inputs=5)


def test_experts_of_unequal_outputs_are_refused():
    widths = iter([4, 3])
    model = MixtureOfExperts(
        lambda: [nn.Linear(5, next(widths))], {"a": nn.Identity()}, inputs=5, experts=2
    )
    with pytest.raises(UsageError, match=r"different shapes, \[\(4,\), \(3,\)\]"):
        model(rows())


def test_inputs_of_another_size_are_refused():
    model = network(inputs=6)
    with pytest.raises(UsageError, match="for 6 numbers meets examples of 5"):
        model(rows())
