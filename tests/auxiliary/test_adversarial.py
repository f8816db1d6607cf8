import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from mtlbook.auxiliary.adversarial import (
    AdversarialSharing,
    GradientReversal,
    adversarial_sgd,
    annealing,
    reverse_gradient,
    warm_up,
)
from mtlbook.book.experiments.domains import proxy_a_distance
from mtlbook.errors import UsageError
from mtlbook.layers.schedule import advance
from mtlbook.randomness import generator

CONSTANT = GradientReversal(schedule=None)


def normal(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


def network(reversal: GradientReversal, features: int = 3) -> AdversarialSharing:
    model = AdversarialSharing(
        lambda: [nn.Linear(features, 6), nn.Tanh()],
        heads={"label": nn.Linear(6, 2)},
        adversaries={"domain": nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))},
        reversal=reversal,
    )
    return model.double()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# The reversal -------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(0, 10))
def test_forward_is_the_identity_to_the_last_digit(value, strength):
    x = torch.tensor([value], dtype=torch.float64)
    assert torch.equal(reverse_gradient(x, strength), x)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.5])
def test_the_gradient_is_minus_lambda_times_the_finite_difference(strength):
    layer = nn.Linear(4, 1, dtype=torch.float64)
    x = normal(4, purpose="point").requires_grad_()
    step = 1e-6
    forward = [layer(x + step * e).exp() for e in torch.eye(4, dtype=torch.float64)]
    backward = [layer(x - step * e).exp() for e in torch.eye(4, dtype=torch.float64)]
    difference = (torch.cat(forward) - torch.cat(backward)) / (2 * step)
    (gradient,) = torch.autograd.grad(layer(reverse_gradient(x, strength)).exp(), x)
    torch.testing.assert_close(gradient, -strength * difference, rtol=1e-6, atol=1e-9)


def test_the_transforms_of_torch_func_see_the_reversal():
    x = normal(5, purpose="points")
    strengths = torch.linspace(0, 1, 5, dtype=torch.float64)

    def loss(value: Tensor, strength: Tensor) -> Tensor:
        return reverse_gradient(value, strength).sin()

    torch.testing.assert_close(vmap(grad(loss))(x, strengths), -strengths * x.cos())


# The schedule -------------------------------------------------------------------------------------


@given(st.floats(0, 1))
def test_the_warm_up_is_a_hyperbolic_tangent(progress):
    """2 / (1 + exp(−2a)) − 1 = tanh a."""
    value = float(warm_up(torch.tensor(progress, dtype=torch.float64)))
    assert value == pytest.approx(math.tanh(5 * progress), abs=1e-15)


def slope(reversal: GradientReversal) -> float:
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(reversal(x), x)
    return float(gradient)


def test_lambda_follows_the_progress_of_the_training():
    reversal = GradientReversal(strength=0.5)
    for step in range(5):
        advance(reversal, step / 4)
        assert slope(reversal) == pytest.approx(-0.5 * math.tanh(5 * step / 4), abs=1e-6)


def test_forward_passes_do_not_advance_the_schedule():
    """As many as a step has, in training and in evaluation."""
    reversal = GradientReversal()
    advance(reversal, 0.1)
    first = slope(reversal)
    assert [slope(reversal) for _ in range(3)] == [first] * 3
    assert slope(reversal.eval()) == first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_features_keep_their_type(dtype):
    reversal = GradientReversal(strength=0.5)
    advance(reversal, 0.5)
    assert reversal(torch.ones(3, dtype=dtype)).dtype == dtype


def test_a_schedule_of_the_users_own():
    reversal = GradientReversal(strength=0.5, schedule=torch.square)
    advance(reversal, 0.5)
    assert slope(reversal) == -0.5 * 0.25


def test_without_a_schedule_lambda_is_constant():
    reversal = GradientReversal(strength=0.7, schedule=None)
    assert slope(reversal) == -0.7
    advance(reversal, 0.3)
    assert slope(reversal) == -0.7


def test_a_checkpoint_holds_the_progress():
    first, second = GradientReversal(), GradientReversal()
    advance(first, 0.6)
    second.load_state_dict(first.state_dict())
    assert slope(second) == slope(first) == pytest.approx(-math.tanh(5 * 0.6), abs=1e-6)


def test_the_learning_rate_falls_as_in_the_paper():
    parameter = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], lr=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: annealing(step / 2))
    rates = []
    for _ in range(3):
        rates.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    assert rates == pytest.approx([0.01, 0.01 * 6**-0.75, 0.01 * 11**-0.75])


# The network --------------------------------------------------------------------------------------


def batch(rows: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    x = normal(rows, 3, purpose="inputs")
    return x, (x[:, 0] > 0).long(), (x[:, 1:2] > 0).double()


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_the_trunk_ascends_the_domain_loss_and_the_domain_head_descends_it(strength):
    """Against the saddle point's gradients, from the same modules without any reversal."""
    model = network(GradientReversal(strength, schedule=None))
    x, labels, domains = batch()
    predictions = model(x)
    label_loss = F.cross_entropy(predictions["label"], labels)
    domain_loss = F.binary_cross_entropy_with_logits(predictions["domain"], domains)
    (label_loss + domain_loss).backward()

    features = model.trunk(x)
    plain_label = F.cross_entropy(model.heads["label"](features), labels)
    plain_domain = F.binary_cross_entropy_with_logits(
        model.adversaries["domain"](features), domains
    )
    saddle = plain_label - strength * plain_domain
    for part, objective in [
        (model.trunk, saddle),
        (model.heads, plain_label),
        (model.adversaries, plain_domain),
    ]:
        parameters = list(part.parameters())
        wanted = torch.autograd.grad(objective, parameters, retain_graph=True)
        for parameter, expected in zip(parameters, wanted, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected)
            assert bool(expected.abs().max() > 0)


def test_several_adversaries_take_the_same_features():
    model = AdversarialSharing(
        lambda: [nn.Linear(3, 2)],
        heads={"label": nn.Linear(2, 2)},
        adversaries={"domain": nn.Linear(2, 1), "camera": nn.Linear(2, 1)},
    )
    x = torch.ones(4, 3)
    predicted, features = model(x), model.trunk(x)
    assert list(predicted) == ["label", "domain", "camera"]
    assert torch.equal(predicted["camera"], model.adversaries["camera"](features))


def two_domains(rows: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """The label can be seen along both axes, and along the second the domains lie apart."""
    labels = torch.randint(2, (rows,), generator=generator(0, "labels"))
    from_target = torch.arange(rows) % 2 == 1
    x = normal(rows, 2, purpose="domains") + 2 * (2 * labels - 1).unsqueeze(1)
    x[:, 1] += 6 * from_target
    return x, labels, from_target


def loss(predicted: dict[str, Tensor], labels: Tensor, from_target: Tensor) -> Tensor:
    """Labels count in the source only, and the domain everywhere."""
    source = ~from_target
    domain = from_target.double().unsqueeze(1)
    return F.cross_entropy(
        predicted["label"][source], labels[source]
    ) + F.binary_cross_entropy_with_logits(predicted["domain"], domain)


@pytest.mark.parametrize("seed", [0, 1])
def test_training_hides_the_domain_and_keeps_the_label(seed):
    """A single linear feature can serve the label without the domain: along the first axis.

    The labels alone ask for the sum of both axes, which tells the domains apart.
    """
    x, labels, from_target = two_domains()
    distances = {}
    for strength in (0.0, 1.0):
        torch.manual_seed(seed)
        model = AdversarialSharing(
            lambda: [nn.Linear(2, 1)],
            heads={"label": nn.Linear(1, 2)},
            adversaries={"domain": nn.Linear(1, 1)},
            reversal=GradientReversal(strength),
        ).double()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(300):
            advance(model, step / 300)
            optimiser.zero_grad()
            loss(dict(model(x)), labels, from_target).backward()
            optimiser.step()
        assert (model(x)["label"].argmax(1) == labels)[~from_target].double().mean() > 0.9
        features = model.trunk(x)
        distances[strength] = proxy_a_distance(features[~from_target], features[from_target])
    assert distances[1.0] < min(distances[0.0], 0.5)


def test_replicas_all_at_once_equal_one_after_another():
    """As in `fit`, where progress is a buffer of each replica."""
    models = [network(GradientReversal(), features=2) for _ in range(3)]
    for model in models:
        advance(model, 0.1)
    parameters, buffers = stack_module_state(models)
    x, labels, _ = two_domains(20)

    def one(own: dict[str, Tensor], constant: dict[str, Tensor]) -> Tensor:
        predicted = functional_call(models[0], (own, constant), (x,))
        return F.cross_entropy(predicted["label"], labels) + predicted["domain"].square().mean()

    together = vmap(grad(one))(parameters, buffers)
    for number, model in enumerate(models):
        alone = grad(one)(dict(model.named_parameters()), dict(model.named_buffers()))
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-13)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_an_impossible_strength_is_refused(strength):
    with pytest.raises(UsageError, match="the reversal itself has the minus sign"):
        GradientReversal(strength)


def test_a_task_is_either_helped_or_deceived():
    head = {"label": nn.Linear(2, 1)}
    with pytest.raises(UsageError, match="both heads and adversaries"):
        AdversarialSharing(lambda: [nn.Linear(3, 2)], head, adversaries=head)
    with pytest.raises(UsageError, match="at least one head and one adversary"):
        AdversarialSharing(lambda: [nn.Linear(3, 2)], head, adversaries={})


# The optimiser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_adversaries_move_by_longer_steps(prefix):
    """In the network itself, and where it is part of another."""
    inner = network(CONSTANT)
    model = nn.ModuleDict({"model": inner}) if prefix else inner
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    adversarial_sgd(model.named_parameters(), learning_rate=0.1, adversary_speed=4.0).step()
    for name, parameter in model.named_parameters():
        moved = 0.4 if name.startswith(f"{prefix}adversaries.") else 0.1
        torch.testing.assert_close(parameter.detach(), before[name] - moved)


def test_a_part_that_only_sounds_like_the_adversaries_is_none():
    model = nn.ModuleDict({"nonadversaries": nn.Linear(2, 1), "adversaries": nn.Linear(2, 1)})
    others, adversaries = adversarial_sgd(model.named_parameters(), 0.1).param_groups
    assert others["params"] == list(model["nonadversaries"].parameters())
    assert adversaries["params"] == list(model["adversaries"].parameters())


def test_an_optimiser_without_adversaries_is_refused():
    with pytest.raises(UsageError, match="no adversary"):
        adversarial_sgd(nn.Linear(2, 1).named_parameters(), 0.1)
