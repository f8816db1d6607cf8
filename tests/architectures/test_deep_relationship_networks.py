from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mtlbook.architectures.deep_relationship_networks import (
    AXES,
    DeepRelationshipNetwork,
    RelationshipPrior,
    bounded,
    correlations,
    energy,
    flip_flop,
    kronecker_ridge,
    log_determinant,
)
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.soft import SquaredDistance
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.settings import Settings
from tests.equal import exactly

NAMES = ("art", "clipart", "product", "real", "sketch", "quickdraw")

pytestmark = pytest.mark.usefixtures("double")


def dense() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(5, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 4), nn.Tanh())]


def convolutional() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()),
    ]


def network(
    tasks: int = 3, stages: Callable[[], Sequence[nn.Module]] = dense, **options: Any
) -> DeepRelationshipNetwork:
    width = 4 if stages is dense else 4 * 4 * 4
    heads = {name: nn.Linear(width, 2) for name in NAMES[:tasks]}
    return DeepRelationshipNetwork(stages, heads, **options)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def covariance(size: int, purpose: str = "covariance") -> Tensor:
    root = random(size, 2 * size, purpose=f"{purpose} {size}")
    return root @ root.T / size


def covariances(stack: Tensor) -> dict[str, Tensor]:
    return {axis: covariance(n, axis) for axis, n in zip(AXES, stack.shape, strict=True)}


def set_covariances(model: DeepRelationshipNetwork) -> None:
    for number, relation in enumerate(model.relations):
        for axis, own in relation.named_buffers():
            own.copy_(covariance(own.shape[-1], f"{number} {axis}").expand_as(own))


def objective(stack: Tensor, own: dict[str, Tensor]) -> float:
    return float(energy(stack, own) + log_determinant(stack, own))


# The equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [2, 6])
def test_the_energy_is_the_papers_with_the_kronecker_product_written_out(tasks):
    """The independent oracle: one inverse of a D × D matrix, in NumPy."""
    stack = random(3, 2, tasks)
    own = covariances(stack)
    first, second, third = (own[axis].numpy() for axis in AXES)
    flat = stack.numpy().reshape(-1)  # the last axis runs fastest, as in Σ_1 ⊗ Σ_2 ⊗ Σ_3
    product = np.kron(np.kron(first, second), third)
    assert float(energy(stack, own)) == pytest.approx(flat @ np.linalg.inv(product) @ flat, 1e-12)
    assert float(log_determinant(stack, own)) == pytest.approx(np.linalg.slogdet(product)[1], 1e-12)


@pytest.mark.parametrize("tasks", [2, 6])
@pytest.mark.parametrize("axis", AXES)
def test_an_update_is_the_loop_over_pairs_of_slices(axis, tasks):
    stack = random(3, 2, tasks)
    own = covariances(stack)
    place = AXES.index(axis)
    others = [np.linalg.inv(own[name].numpy()) for name in AXES if name != axis]
    slices = [s.numpy() for s in stack.unbind(place)]
    size = len(slices)
    expected = np.zeros((size, size))
    for s in range(size):
        for t in range(size):
            # Σ_3,st = tr(Σ_1⁻¹ W_s Σ_2⁻¹ W_tᵀ) / (D_1 D_2), and alike for the other axes.
            expected[s, t] = np.trace(others[0] @ slices[s] @ others[1] @ slices[t].T)
    expected /= slices[0].size
    exactly(flip_flop(stack, own, axis), torch.from_numpy(expected))


@given(st.integers(0, 50), st.sampled_from(AXES))
def test_no_update_raises_the_objective(seed, axis):
    """ε = 0: each update is the minimum over its covariance, beside the others as they are."""
    stack = torch.randn(5, 4, 3, generator=generator(seed, "stack"), dtype=torch.float64)
    own = {}
    for name, size in zip(AXES, stack.shape, strict=True):
        root = torch.randn(size, 2 * size, generator=generator(seed, name), dtype=torch.float64)
        own[name] = root @ root.T
    before = objective(stack, own)
    new = own | {axis: flip_flop(stack, own, axis)}
    after = objective(stack, new)
    assert after <= before + 1e-9
    # And it is a minimum: any other covariance nearby is worse.
    for sign in (-1, 1):
        root = torch.linalg.cholesky(new[axis])
        turned = torch.eye(len(root)) + sign * 0.01 * (own[axis] / own[axis].trace())
        nearby = root @ turned.to(root) @ root.T
        assert objective(stack, new | {axis: nearby}) > after


@given(st.integers(0, 50))
def test_a_fixed_trace_does_not_raise_the_objective_at_the_best_scale(seed):
    """With a scale c of its own, energy / c + D ln c, which `bounded` without a share leaves."""

    def profiled(stack: Tensor, own: Tensor) -> float:
        scaled = energy(stack, {"tasks": own}) / stack.numel()
        return float(stack.numel() * scaled.log() + log_determinant(stack, {"tasks": own}))

    stack = torch.randn(5, 4, 3, generator=generator(seed, "stack"), dtype=torch.float64)
    before = bounded(covariance(3).double(), 0.0)
    after = bounded(flip_flop(stack, {"tasks": before}, "tasks"), 0.0)
    assert float(after.trace()) == pytest.approx(3.0, abs=1e-12)
    assert profiled(stack, after) <= profiled(stack, before) + 1e-9


def test_what_one_covariance_gains_in_scale_another_may_lose():
    stack = random(3, 2, 4)
    own = covariances(stack)
    scaled = own | {"features": 7.0 * own["features"], "tasks": own["tasks"] / 7.0}
    torch.testing.assert_close(energy(stack, scaled), energy(stack, own), rtol=1e-12, atol=0)
    both = [log_determinant(stack, each) for each in (scaled, own)]
    torch.testing.assert_close(both[0], both[1], rtol=1e-12, atol=1e-12)


def test_the_minimum_over_both_is_unbounded_and_the_bound_ends_it():
    """𝒲 → 0 with Σ → 0; and at a fixed trace still where tasks become collinear."""
    stack = random(3, 2, 4)
    shrunk = [objective(c * stack, {"tasks": c**2 * covariance(4)}) for c in (1.0, 1e-3, 1e-6)]
    assert shrunk[0] > shrunk[1] + 50 > shrunk[2] + 100
    common, own = stack[..., :1].expand_as(stack), random(3, 2, 4, purpose="own")

    def nearly_collinear(spread: float, identity: float) -> float:
        near = common + spread * own
        tasks = bounded(flip_flop(near, {}, "tasks"), identity)
        assert float(tasks.trace()) == pytest.approx(4.0)
        return objective(near, {"tasks": tasks})

    fixed_trace = [nearly_collinear(spread, 0.0) for spread in (1e-1, 1e-3, 1e-5)]
    assert fixed_trace[0] > fixed_trace[1] + 50 > fixed_trace[2] + 100
    with_share = [nearly_collinear(spread, 0.1) for spread in (1e-3, 1e-5, 0.0)]
    assert max(with_share) - min(with_share) < 1
    least = 6 * 4 * np.log(0.1)  # (D / T) ln |Σ_3|, no eigenvalue of which is below the share
    assert min(with_share) > least


def test_bounded_covariances_keep_trace_floor_and_correlations():
    own = covariance(5)
    new = bounded(own, 0.2)
    assert float(new.trace()) == pytest.approx(5.0, abs=1e-12)
    assert float(torch.linalg.eigvalsh(new).min()) > 0.2
    exactly(correlations(bounded(own, 0.0)), correlations(own))
    exactly(bounded(own, 1.0), torch.eye(5))
    exactly(bounded(torch.zeros(3, 3), 0.3), torch.eye(3))


def test_correlations_are_numpys():
    own = covariance(4)
    deviations = own.diagonal().sqrt()
    exactly(correlations(own), own / torch.outer(deviations, deviations))


# Limiting cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [2, 6])
def test_with_the_identity_the_prior_is_independent_l2(tasks):
    model = network(tasks, branch_at=1)
    weights = [
        p for name, p in model.named_parameters() if "weight" in name and "trunk" not in name
    ]
    expected = torch.stack([p.square().sum() for p in weights]).sum() / 2
    exactly(RelationshipPrior(0.3)(model), 0.3 * expected)
    for every in (AXES, ("features",), ("outputs", "tasks")):
        exactly(network_like(model, related=every).prior(), expected)


def network_like(model: DeepRelationshipNetwork, **options: Any) -> DeepRelationshipNetwork:
    other = network(len(model.heads), branch_at=len(model.trunk), **options)
    other.load_state_dict(model.state_dict(), strict=False)
    return other


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tasks", [2, 6])
def test_one_correlation_for_all_is_l2_and_the_squared_distance(tasks, bias):
    """Σ_3⁻¹ = a I + b (T I − 11ᵀ) is ½ a ‖𝒲‖² + (b / 2) Σ_{s<t} ‖W_s − W_t‖²: section 3.2."""
    a, b = 0.7, 0.4
    heads = {name: nn.Linear(4, 2, bias=bias) for name in NAMES[:tasks]}
    model = DeepRelationshipNetwork(dense, heads, biases=True)
    precision = a * torch.eye(tasks) + b * (tasks * torch.eye(tasks) - torch.ones(tasks, tasks))
    model.get_buffer("relations.0.tasks").copy_(precision.inverse())
    parameters = list(model.heads.parameters())
    l2 = torch.stack([own.square().sum() for own in parameters]).sum() / 2
    expected = a * l2 + SquaredDistance(b / 2, tied=["heads"])(model)
    exactly(model.prior(), expected)
    found, wanted = (torch.autograd.grad(own, parameters) for own in (model.prior(), expected))
    for one, other in zip(found, wanted, strict=True):
        exactly(one, other)


@pytest.mark.parametrize("tasks", [2, 6])
def test_one_linear_layer_has_its_minimum_in_closed_form(tasks):
    """At the Kronecker ridge solution the gradient of losses and prior vanishes."""
    x, y, strength = random(tasks, 7, 4), random(tasks, 7, purpose="targets"), 0.3
    heads = {name: nn.Linear(4, 1, bias=False) for name in NAMES[:tasks]}
    model = DeepRelationshipNetwork(lambda: [nn.Identity()], heads)
    own = covariance(tasks)
    model.get_buffer("relations.0.tasks").copy_(own)
    solution = kronecker_ridge(x, y, own, strength)
    with torch.no_grad():
        for head, weights in zip(heads.values(), solution.T, strict=True):
            head.weight.copy_(weights[None])
    losses = [
        (y[number] - model(x[number])[name][:, 0]).square().mean()
        for number, name in enumerate(heads)
    ]
    whole = torch.stack(losses).sum() + RelationshipPrior(strength)(model)
    for gradient in torch.autograd.grad(whole, list(heads[NAMES[0]].parameters())):
        exactly(gradient, torch.zeros_like(gradient))
    separate = [
        torch.linalg.solve(2 / 7 * one.T @ one + strength * torch.eye(4), 2 / 7 * one.T @ target)
        for one, target in zip(x, y, strict=True)
    ]
    alone = kronecker_ridge(x, y, torch.eye(tasks), strength)
    exactly(alone, torch.stack(separate, dim=1))


def test_opposed_tasks_help_each_other_through_a_negative_covariance():
    """Without any row of its own, a task is predicted as the negative of the other."""
    x = torch.eye(3).expand(2, 3, 3).clone()
    y = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    x[1] = 0
    own = torch.tensor([[1.0, -0.9], [-0.9, 1.0]])
    weights = kronecker_ridge(x, y, own, 1e-6)
    torch.testing.assert_close(weights[:, 1], -0.9 * weights[:, 0])


# The network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("tasks", [2, 6])
def test_the_prior_of_a_network_is_the_loop_over_layers_and_tasks(stages, tasks):
    model = network(tasks, stages, branch_at=1, related=AXES)
    assert model.layers == (
        "branches.*.0.0.weight",
        "heads.*.weight",
    )
    set_covariances(model)
    expected = torch.zeros(())
    for number, place in enumerate(("branches.{}.0.0", "heads.{}")):
        own = dict(model.relations[number].named_buffers())
        inverse = {axis: torch.linalg.inv(values) for axis, values in own.items()}
        weights = [
            model.get_parameter(f"{place.format(name)}.weight").flatten(1).T
            for name in NAMES[:tasks]
        ]
        for s, first in enumerate(weights):
            for t, second in enumerate(weights):
                inner = first.T @ inverse["features"] @ second @ inverse["outputs"]
                expected = expected + inverse["tasks"][s, t] * inner.trace() / 2
    torch.testing.assert_close(model.prior(), expected, rtol=1e-11, atol=1e-12)
    own = list(model.parameters())
    found, wanted = (
        torch.autograd.grad(each, own, allow_unused=True) for each in (model.prior(), expected)
    )
    for (name, _), one, other in zip(model.named_parameters(), found, wanted, strict=True):
        assert (one is None) == ("weight" not in name or "trunk" in name or "0.1." in name), name
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_the_gradient_of_the_prior_is_that_of_finite_differences():
    stack = random(3, 2, 4).requires_grad_()
    own = covariances(stack.detach())
    assert torch.autograd.gradcheck(lambda weights: energy(weights, own), (stack,))
    assert torch.autograd.gradgradcheck(lambda weights: energy(weights, own), (stack,))


def test_the_predictions_are_those_of_hard_sharing_with_branches_that_start_alike():
    model = network(branch_at=1)
    x = random(7, 5)
    for name, prediction in model(x).items():
        features = model.branches[name](model.trunk(x))
        torch.testing.assert_close(prediction, model.heads[name](features))
    first, second = (model.branches[name].state_dict() for name in NAMES[:2])
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_covariances_are_learnt_one_after_another_in_every_layer():
    model = network(branch_at=1, related=AXES)
    new = model.learnt(0.2)
    assert list(new) == [f"relations.{layer}.{axis}" for layer in (0, 1) for axis in AXES]
    heads = [model.get_parameter(f"heads.{name}.weight").T for name in NAMES[:3]]
    stack = torch.stack(heads, dim=-1).detach()
    own = {axis: torch.eye(n) for axis, n in zip(AXES, stack.shape, strict=True)}
    for axis in AXES:
        own[axis] = bounded(flip_flop(stack, own, axis), 0.2)
        exactly(new[f"relations.1.{axis}"].detach(), own[axis])
    RelationshipPrior(1.0, identity=0.2).update(model)
    exactly(model.get_buffer("relations.1.tasks"), own["tasks"])


def test_a_tasks_own_prior_is_that_of_the_task_without_the_others():
    """With `apart`, what Zhao et al. put into one network is put into each."""
    modes = ("features", "outputs")
    model = network(3, branch_at=0, related=modes, apart=True)
    prior = RelationshipPrior(1.0, identity=0.2)
    prior.update(model)
    prior.update(model)
    total = torch.zeros(())
    for number, name in enumerate(NAMES[:3]):
        for layer, place in enumerate(
            (f"branches.{name}.0.0", f"branches.{name}.1.0", f"heads.{name}")
        ):
            stack = model.get_parameter(f"{place}.weight").detach().T[..., None]
            own = {axis: torch.eye(stack.shape[AXES.index(axis)]) for axis in modes}
            for _ in range(2):
                for axis in modes:
                    own[axis] = bounded(flip_flop(stack, own, axis), 0.2)
            for axis in modes:
                exactly(model.get_buffer(f"relations.{layer}.{axis}")[number], own[axis])
            total = total + energy(stack, own) / 2
    exactly(model.prior(), total)


# Training -----------------------------------------------------------------------------------------


def opposed(seed: int = 0) -> MultiTaskData:
    names = ("up", "down")
    x = {name: torch.randn(40, 5, generator=generator(seed, name)) for name in names}
    w = torch.randn(5, 1, generator=generator(seed, "weights"))
    sets = {
        Task.regression(name): (x[name], sign * x[name] @ w)
        for name, sign in zip(names, (1, -1), strict=True)
    }
    return MultiTaskData.several(sets)


def build(data: MultiTaskData, _seed: int, **options: Any) -> DeepRelationshipNetwork:
    heads = {task.name: nn.Linear(4, 1) for task in data.tasks}
    return DeepRelationshipNetwork(dense, heads, **options)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"related": ("features", "outputs"), "branch_at": 0, "apart": True}]
)
def test_in_fit_all_seeds_at_once_are_one_after_another(options, every):
    prior = RelationshipPrior(0.1, identity=0.1, every=every)
    settings = {"steps": 7, "regulariser": prior, "after_step": prior.after_step, "stopping": None}
    both = [
        fit(
            partial(build, **options), opposed(), seeds=range(3),
            settings=Settings(**settings, vectorise=at_once),
        )
        for at_once in (True, False)
    ]  # fmt: skip
    for seed in range(3):
        first, second = (own.model(seed).state_dict() for own in both)
        for name, values in first.items():
            torch.testing.assert_close(values, second[name], rtol=1e-9, atol=1e-9)
        moved = [own for name, own in first.items() if name.startswith("relations")]
        moved = [own for own in moved if own.shape[-1] > 1]
        assert moved
        assert not any(torch.equal(own, torch.eye(own.shape[-1]).expand_as(own)) for own in moved)


def test_opposed_tasks_are_found():
    prior = RelationshipPrior(0.05, identity=0.05)
    settings = Settings(
        steps=200, learning_rate=0.02, regulariser=prior, after_step=prior.after_step
    )
    model = fit(build, opposed(), seeds=[0], settings=settings).model(0)
    assert isinstance(model, DeepRelationshipNetwork)
    assert float(correlations(model.get_buffer("relations.0.tasks"))[0, 1]) < -0.8


def test_a_plain_loop_learns_what_fit_learns():
    prior = RelationshipPrior(0.1, identity=0.1, every=2)
    data = opposed()
    split = Holdout(train=40, validation=0, test=0)
    model = build(data, 0)

    def begin(fresh: nn.Module, _seed: int) -> None:
        fresh.load_state_dict(model.state_dict())

    settings = Settings(
        split=split, steps=5, regulariser=prior, after_step=prior.after_step, stopping=None,
        optimiser=partial(torch.optim.SGD, lr=0.1), sampler=Balanced(40), start=begin,
    )  # fmt: skip
    fitted = fit(build, data, seeds=[0], settings=settings).model(0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(5):
        optimiser.zero_grad()
        predicted = model(data.inputs)
        losses = [
            (predicted[name] - data.targets[name])[data.labelled[name]].square().mean()
            for name in predicted
        ]
        (torch.stack(losses).sum() + prior(model)).backward()
        optimiser.step()
        if step % 2:
            prior.update(model)
    for name, values in fitted.state_dict().items():
        torch.testing.assert_close(values, model.state_dict()[name], rtol=1e-10, atol=1e-11)


def test_replicas_all_at_once_equal_one_after_another():
    models = [network(3, branch_at=1, related=AXES) for _ in range(3)]
    for model in models:
        RelationshipPrior(1.0).update(model)
    parameters, buffers = stack_module_state(models)

    def prior(own: dict[str, Tensor], of: dict[str, Tensor]) -> Tensor:
        class Prior(nn.Module):
            def __init__(self, model: DeepRelationshipNetwork) -> None:
                super().__init__()
                self.model = model

            def forward(self) -> Tensor:
                return self.model.prior()

        named = {f"model.{name}": values for name, values in (own | of).items()}
        return functional_call(Prior(models[0]), named, ())

    together = vmap(grad(prior))(parameters, buffers)
    for number, model in enumerate(models):
        alone = torch.autograd.grad(model.prior(), list(model.parameters()), allow_unused=True)
        for (name, _), expected in zip(model.named_parameters(), alone, strict=True):
            found = together[name][number]
            wanted = torch.zeros_like(found) if expected is None else expected
            torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


def test_the_covariances_are_saved_and_not_trained():
    model = network(branch_at=1)
    assert "relations.1.tasks" in model.state_dict()
    assert not any("relations" in name for name, _ in model.named_parameters())


# What is refused ----------------------------------------------------------------------------------


def test_a_single_task_is_refused():
    with pytest.raises(UsageError, match="at least two"):
        network(1)


def test_heads_of_unequal_shapes_are_refused():
    heads = {"kind": nn.Linear(4, 3), "price": nn.Linear(4, 1)}
    with pytest.raises(UsageError, match=r"differ in shape.*leave 'heads' out"):
        DeepRelationshipNetwork(dense, heads)
    model = DeepRelationshipNetwork(dense, heads, branch_at=1, tied=["branches"])
    assert model.layers == ("branches.*.0.0.weight",)


def test_layers_without_weights_are_refused():
    heads = {name: nn.Identity() for name in NAMES[:2]}
    with pytest.raises(UsageError, match="no parameter"):
        DeepRelationshipNetwork(dense, heads)
    scales = {name: nn.BatchNorm1d(4) for name in NAMES[:2]}
    with pytest.raises(UsageError, match="no weights"):
        DeepRelationshipNetwork(dense, scales)


def test_unknown_axes_and_related_tasks_apart_are_refused():
    with pytest.raises(UsageError, match="features, outputs, tasks"):
        network(related=["classes"])
    with pytest.raises(UsageError, match="leave 'tasks' out"):
        network(apart=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1.0}, "at least 0"),
        ({"strength": float("nan")}, "at least 0"),
        ({"strength": 1.0, "identity": 1.5}, "between 0 and 1"),
        ({"strength": 1.0, "every": 0}, "at least 1"),
    ],
)
def test_impossible_priors_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        RelationshipPrior(**options)


def test_other_models_are_refused():
    with pytest.raises(UsageError, match="DeepRelationshipNetwork"):
        RelationshipPrior(1.0)(nn.Linear(2, 2))
