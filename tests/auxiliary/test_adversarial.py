import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor, nn
from torch.func import grad, vmap

from mtlbook.auxiliary.adversarial import (
    AdversarialSharing,
    GradientReversal,
    a_distance,
    annealing,
    descent,
    least_joint_error,
    proxy_a_distance,
    reverse_gradient,
    warm_up,
)
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.fit import Fit, fit

LABEL, DOMAIN = Task.classification("label", classes=2), Task.binary("domain")


def normal(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


def network(reversal: GradientReversal, features: int = 3) -> AdversarialSharing:
    model = AdversarialSharing(
        [nn.Linear(features, 6), nn.Tanh()],
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


def test_lambda_advances_with_the_training_steps_only():
    reversal = GradientReversal(steps=4, strength=0.5)
    wanted = [-0.5 * math.tanh(5 * step / 4) for step in range(5)]
    assert [slope(reversal) for _ in range(3)] == pytest.approx(wanted[:3])
    reversal.eval()
    assert [slope(reversal) for _ in range(2)] == pytest.approx([wanted[3]] * 2)
    reversal.train()
    assert [slope(reversal) for _ in range(4)] == pytest.approx([*wanted[3:], *wanted[4:] * 2])


def test_without_a_schedule_lambda_is_constant():
    reversal = GradientReversal(steps=None, strength=0.7)
    assert [slope(reversal) for _ in range(3)] == [-0.7] * 3


def test_a_checkpoint_holds_the_progress():
    first, second = GradientReversal(steps=10), GradientReversal(steps=10)
    for _ in range(6):
        first(torch.ones(1))
    second.load_state_dict(first.state_dict())
    assert slope(second) == pytest.approx(-math.tanh(5 * 0.6))


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
    model = network(GradientReversal(steps=None, strength=strength))
    x, labels, domains = batch()
    predictions = model(x)
    label_loss = LABEL.loss(predictions["label"], labels).mean()
    domain_loss = DOMAIN.loss(predictions["domain"], domains).mean()
    (label_loss + domain_loss).backward()

    features = model.trunk(x)
    plain_label = LABEL.loss(model.heads["label"](features), labels).mean()
    plain_domain = DOMAIN.loss(model.adversaries["domain"](features), domains).mean()
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


def test_several_adversaries_make_one_step_of_the_schedule():
    reversal = GradientReversal(steps=10)
    model = AdversarialSharing(
        [nn.Linear(3, 2)],
        heads={"label": nn.Linear(2, 2)},
        adversaries={"domain": nn.Linear(2, 1), "camera": nn.Linear(2, 1)},
        reversal=reversal,
    )
    assert set(model(torch.ones(4, 3))) == {"label", "domain", "camera"}
    assert int(reversal.step) == 1


def two_domains(rows: int = 200) -> tuple[MultiTaskData, Tensor]:
    """The label can be seen along both axes, and along the second the domains lie apart."""
    labels = torch.randint(2, (rows,), generator=generator(0, "labels"))
    from_target = torch.arange(rows) % 2 == 1
    x = normal(rows, 2, purpose="domains") + 2 * (2 * labels - 1).unsqueeze(1)
    x[:, 1] += 6 * from_target
    every = torch.ones(rows, dtype=torch.bool)
    data = MultiTaskData.partial(
        [LABEL, DOMAIN],
        x,
        {"label": labels, "domain": from_target.double()},
        {"label": ~from_target, "domain": every},
    )
    return data, from_target


def train(strength: float = 1.0, steps: int = 40, width: int = 6, **options: Any) -> Fit:
    data, _ = two_domains()
    settings = {"seeds": range(3), "learning_rate": 0.02, "stopping": None}

    def build() -> AdversarialSharing:
        return AdversarialSharing(
            [nn.Linear(2, width)],
            heads={"label": nn.Linear(width, 2)},
            adversaries={"domain": nn.Linear(width, 1)},
            reversal=GradientReversal(steps=steps, strength=strength),
        )

    return fit(build, data, steps=steps, **{**settings, **options})


def test_all_seeds_at_once_equal_one_after_another():
    together, apart, alone = train(), train(vectorise=False), train(seeds=[1])
    for task in ("label", "domain"):
        losses = together.score(task, "loss")
        np.testing.assert_allclose(losses, apart.score(task, "loss"), rtol=1e-9)
        np.testing.assert_allclose(losses[1:2], alone.score(task, "loss"), rtol=1e-9)
    reversal = together.model(1).get_submodule("reversal")
    assert int(reversal.get_buffer("step")) == 40


def test_training_hides_the_domain_and_keeps_the_label():
    """A single linear feature can serve the label without the domain: along the first axis.

    The labels alone ask for the sum of both axes, which tells the domains apart.
    """
    data, from_target = two_domains()
    distances = {}
    for strength in (0.0, 1.0):
        trained = train(strength, steps=300, width=1)
        assert trained.score("label").min() > 0.9
        trunks = [trained.model(seed).get_submodule("trunk") for seed in trained.seeds]
        with torch.no_grad():
            features = [trunk(data.inputs) for trunk in trunks]
        distances[strength] = np.array(
            [proxy_a_distance(own[~from_target], own[from_target]) for own in features]
        )
    assert (distances[1.0] < distances[0.0]).all()
    assert distances[1.0].max() < 0.5


# The distance -------------------------------------------------------------------------------------


def test_the_a_distance_runs_from_chance_to_certainty():
    assert a_distance(0.5) == 0
    assert a_distance(0.0) == 2
    assert a_distance(0.25) == 1


def test_domains_that_are_one_are_at_distance_zero():
    source, target = normal(2000, 2, purpose="source"), normal(1000, 2, purpose="target")
    # Three standard errors of 4 ε: ε is the mean of two rates near ½.
    error = 4 * math.sqrt(0.25 / 2000 + 0.25 / 1000) / 2
    assert abs(proxy_a_distance(source, target)) < 3 * error


def test_the_distance_of_two_gaussians_is_that_of_the_best_classifier():
    """N(0, I) and N(δ, I): the least error is Φ(−|δ| / 2), and the best classifier is linear."""
    shift = torch.tensor([1.0, 0.5], dtype=torch.float64)
    source = normal(3000, 2, purpose="source")
    target = normal(3000, 2, purpose="target") + shift
    error = (1 - math.erf(float(shift.norm()) / 2 / math.sqrt(2))) / 2
    assert proxy_a_distance(source, target) == pytest.approx(a_distance(error), abs=0.1)


def test_the_distance_does_not_depend_on_how_many_rows_each_domain_has():
    near, far = normal(2000, 1, purpose="source"), normal(2000, 1, purpose="target") + 1.5
    assert proxy_a_distance(near[:200], far) == pytest.approx(proxy_a_distance(near, far), abs=0.15)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, -3])
def test_an_impossible_schedule_is_refused(steps):
    with pytest.raises(UsageError, match="at least 1 step"):
        GradientReversal(steps=steps)


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_an_impossible_strength_is_refused(strength):
    with pytest.raises(UsageError, match="the reversal itself has the minus sign"):
        GradientReversal(steps=10, strength=strength)


def test_a_task_is_either_helped_or_deceived():
    head = {"label": nn.Linear(2, 1)}
    with pytest.raises(UsageError, match="both heads and adversaries"):
        AdversarialSharing([nn.Linear(3, 2)], head, head, GradientReversal(steps=None))
    with pytest.raises(UsageError, match="at least one head and one adversary"):
        AdversarialSharing([nn.Linear(3, 2)], head, {}, GradientReversal(steps=None))


@pytest.mark.parametrize("folds", [1, 11])
def test_impossible_folds_are_refused(folds):
    with pytest.raises(UsageError, match="choose from 2 to 10 folds"):
        proxy_a_distance(torch.rand(10, 2), torch.rand(30, 2), folds=folds)


# Under a schedule, in a plain loop and with `fit` -------------------------------------------------


def test_a_plain_loop_and_fit_take_the_same_steps():
    """The full batch, so that both see the same rows; both schedules count the same steps."""
    data, _ = two_domains()
    steps, seed = 12, 5
    every_row = Holdout(train=1.0, validation=0.0, test=0.0)

    def build() -> AdversarialSharing:
        return network(GradientReversal(steps), features=2)

    def schedule(step: int) -> float:
        return annealing(step / steps)

    trained = fit(
        build,
        data,
        seeds=[seed, seed + 1],
        split=every_row,
        steps=steps,
        batch_size=None,
        optimiser=partial(descent, learning_rate=0.1),
        schedule=schedule,
        stopping=None,
    )
    one = fit(build, data, seeds=[seed], split=every_row, steps=1, batch_size=None, stopping=None,
              optimiser=partial(descent, learning_rate=0.0))  # fmt: skip
    model = one.model(seed)
    model.get_submodule("reversal").get_buffer("step").zero_()
    model.train()
    optimiser = descent(list(model.named_parameters()), learning_rate=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule)
    labelled = data.labelled["label"]
    for _ in range(steps):
        predicted = model(data.inputs)
        label = LABEL.loss(predicted["label"], data.targets["label"])[labelled].mean()
        domain = DOMAIN.loss(predicted["domain"], data.targets["domain"]).mean()
        optimiser.zero_grad()
        (label + domain).backward()
        optimiser.step()
        scheduler.step()
    fitted = dict(trained.model(seed).named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, fitted[name], rtol=1e-9, atol=1e-12)


def test_descent_moves_the_adversaries_by_longer_steps():
    model = network(GradientReversal(steps=None))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    descent(list(model.named_parameters()), learning_rate=0.1, adversary_speed=4.0).step()
    for name, parameter in model.named_parameters():
        moved = 0.4 if name.startswith("adversaries.") else 0.1
        torch.testing.assert_close(parameter.detach(), before[name] - moved)


# The price of invariance --------------------------------------------------------------------------


def shares(size: int) -> st.SearchStrategy[Tensor]:
    return st.lists(st.floats(0.01, 1), min_size=size, max_size=size).map(
        lambda values: torch.tensor(values, dtype=torch.float64) / sum(values)
    )


@given(shares(4), shares(4))
def test_the_bound_is_half_the_squared_jensen_shannon_distance(source, target):
    wanted = jensenshannon(source.numpy(), target.numpy(), base=2) ** 2 / 2
    assert least_joint_error(source, target) == pytest.approx(wanted, abs=1e-9)


@given(shares(3), shares(3), st.floats(0, 1))
def test_no_invariant_prediction_beats_the_bound(source, target, mixture):
    """The best that predictions of the proportions q can do errs by ½ Σ |q − p| in a domain."""
    predicted = mixture * source + (1 - mixture) * target
    errors = [float((predicted - own).abs().sum()) / 2 for own in (source, target)]
    assert sum(errors) >= least_joint_error(source, target) - 1e-12
