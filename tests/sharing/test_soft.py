import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from mtlbook.errors import UsageError
from mtlbook.sharing.hard import HardSharing, separate_networks
from mtlbook.sharing.soft import (
    AbsoluteDistance,
    SoftSharing,
    SquaredDistance,
    TraceNorm,
    stacked_parameters,
)

CROPS = ("wheat", "maize", "rice")
PENALTIES = [SquaredDistance, AbsoluteDistance, TraceNorm]
EVERY_FORM = [*PENALTIES, partial(TraceNorm, form="Tucker"), partial(TraceNorm, form="TT")]


def layers() -> list[nn.Module]:
    return [nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)]


def networks(*, same_start: bool = False, branch_at: int = 0) -> HardSharing:
    """Networks whose last stage is the output layer, so that the branches are all there is."""
    heads = {name: nn.Identity() for name in CROPS}
    return HardSharing(layers, heads, branch_at=branch_at, same_start=same_start).double()


def one_stage(*crops: str, outputs: int = 1) -> HardSharing:
    return separate_networks(
        lambda: [nn.Linear(5, 4)], {name: nn.Linear(4, outputs) for name in crops or CROPS}
    )


def stack(*shape: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def minimised(penalty: SoftSharing, values: torch.Tensor, amount: float) -> float:
    """The least value of the proximal objective that a general minimiser finds."""

    def objective(flat: np.ndarray) -> float:
        return proximal_objective(penalty, torch.from_numpy(flat).view_as(values), values, amount)

    found = minimize(objective, values.flatten().numpy(), method="Powell", options={"ftol": 1e-12})
    return float(found.fun)


def proximal_objective(
    penalty: SoftSharing, new: torch.Tensor, values: torch.Tensor, amount: float
) -> float:
    return float((new - values).square().sum() / 2 + amount * penalty.measure(new))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# The stacks ---------------------------------------------------------------------------------------


def test_a_stack_has_the_tasks_on_its_last_axis():
    model = networks()
    stacks = stacked_parameters(model, ["branches"])
    shapes = {name: tuple(values.shape) for name, values in stacks.items()}
    assert shapes == {
        "branches.*.0.weight": (4, 5, 3),
        "branches.*.0.bias": (4, 3),
        "branches.*.2.weight": (1, 4, 3),
        "branches.*.2.bias": (1, 3),
    }
    maize = model.get_parameter("branches.maize.0.weight")
    assert torch.equal(stacks["branches.*.0.weight"][..., 1], maize)


def test_only_what_is_named_is_tied():
    model = one_stage()
    assert list(stacked_parameters(model, ["heads"])) == ["heads.*.weight", "heads.*.bias"]
    assert len(SquaredDistance(1.0, tied=("branches", "heads")).proximal(model, 0.1)) == 12
    hard_below = networks(branch_at=2)
    assert list(stacked_parameters(hard_below, ["branches"])) == [
        "branches.*.0.weight",
        "branches.*.0.bias",
    ]


def test_heads_of_unequal_shapes_cannot_be_tied():
    heads = {"harvest": nn.Linear(4, 1), "crop": nn.Linear(4, 4)}
    model = separate_networks(lambda: [nn.Linear(5, 4)], heads)
    assert SquaredDistance(1.0)(model).ndim == 0
    with pytest.raises(UsageError, match=r"heads differ in shape.*leave 'heads' out of tied"):
        SquaredDistance(1.0, tied=("branches", "heads"))(model)


@pytest.mark.parametrize("part", ["trunk", "nonsense"])
def test_what_is_no_dictionary_of_modules_is_refused(part):
    with pytest.raises(UsageError, match=f"'{part}' is none"):
        SquaredDistance(1.0, tied=(part,))(networks())


def test_without_any_parameter_there_is_nothing_to_share():
    with pytest.raises(UsageError, match="no parameter to share softly"):
        SquaredDistance(1.0)(networks(branch_at=3))


@pytest.mark.parametrize("strength", [-1.0, math.nan])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_strength_below_zero_is_refused(penalty, strength):
    with pytest.raises(UsageError, match="at least 0"):
        penalty(strength)


# Squared distance ---------------------------------------------------------------------------------


def test_the_squared_distance_is_the_sum_over_pairs():
    values = stack(4, 3)
    pairs = sum((values[:, s] - values[:, t]).square().sum() for t in range(3) for s in range(t))
    assert torch.allclose(SquaredDistance(1.0).measure(values), torch.as_tensor(pairs))


def test_the_squared_distance_of_two_networks_is_that_of_duong_with_a_frozen_source():
    model = one_stage("wheat", "maize").double()
    source = model.branches["wheat"].requires_grad_(False)
    strength = 0.7  # Duong et al. write λ/2 ‖θ − θ_source‖²
    SquaredDistance(strength / 2)(model).backward()
    target = model.get_parameter("branches.maize.0.weight")
    expected = strength * (target - next(source.parameters()))
    assert target.grad is not None
    assert torch.allclose(target.grad, expected)


def test_the_squared_distance_keeps_the_mean_and_divides_the_deviations():
    values = stack(4, 3)
    new = SquaredDistance(1.0).shrink(values, 0.2)
    mean = values.mean(-1, keepdim=True)
    assert torch.allclose(new.mean(-1, keepdim=True), mean, atol=1e-15)
    assert torch.allclose(new - mean, (values - mean) / (1 + 2 * 3 * 0.2), atol=1e-15)


def test_the_ends_of_the_squared_distance_are_exact():
    values = stack(4, 3)
    assert torch.equal(SquaredDistance(0.0).shrink(values, 0.0), values)
    tied = SquaredDistance(math.inf).shrink(values, math.inf)
    assert torch.equal(tied, values.mean(-1, keepdim=True).expand(4, 3))


# Absolute distance --------------------------------------------------------------------------------


def test_the_absolute_distance_is_the_sum_over_pairs():
    values = stack(4, 3)
    pairs = sum((values[:, s] - values[:, t]).abs().sum() for t in range(3) for s in range(t))
    assert torch.allclose(AbsoluteDistance(1.0).measure(values), torch.as_tensor(pairs))


def test_two_tasks_approach_each_other_by_the_same_amount_until_they_meet():
    apart, close = torch.tensor([[5.0, 1.0], [2.0, 2.6]], dtype=torch.float64)
    new = AbsoluteDistance(1.0).shrink(torch.stack([apart, close]), 0.5)
    assert torch.allclose(new[0], torch.tensor([4.5, 1.5], dtype=torch.float64))
    assert torch.allclose(new[1], torch.tensor([2.3, 2.3], dtype=torch.float64))
    assert new[1, 0] == new[1, 1]


@given(
    arrays(np.float64, (3, 5), elements=st.floats(-4, 4)),
    st.floats(0, 2),
)
def test_the_absolute_distance_agrees_with_isotonic_regression(values, amount):
    tasks = values.shape[-1]
    new = AbsoluteDistance(1.0).shrink(torch.from_numpy(values), amount).numpy()
    for row, result in zip(values, new, strict=True):
        order = np.argsort(row)
        shifted = row[order] - amount * (2 * np.arange(1, tasks + 1) - 1 - tasks)
        expected = IsotonicRegression().fit_transform(np.arange(tasks), shifted)
        np.testing.assert_allclose(result[order], expected, atol=1e-12)
        assert np.isclose(result.mean(), row.mean(), atol=1e-12)


def test_an_absolute_distance_ties_exactly_at_a_finite_strength():
    values = stack(50, 4)
    new = AbsoluteDistance(1.0).shrink(values, 0.2)
    exact = (new[:, :, None] == new[:, None, :]).double().mean()
    assert 0.3 < exact < 1
    everything = AbsoluteDistance(1.0).shrink(values, 10.0)
    assert (everything == everything[:, :1]).all()


def test_an_infinite_absolute_distance_is_refused():
    with pytest.raises(UsageError, match="ties at a finite strength"):
        AbsoluteDistance(math.inf)


# Trace norm ---------------------------------------------------------------------------------------


def test_the_trace_norm_is_torchs_nuclear_norm_and_its_gradient_is_u_v():
    values = stack(2, 4, 3).requires_grad_()
    norm = TraceNorm(1.0).measure(values)
    matrix = values.detach().reshape(8, 3)
    assert torch.allclose(norm, torch.linalg.matrix_norm(matrix, ord="nuc"))
    (gradient,) = torch.autograd.grad(norm, values)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(gradient.reshape(8, 3), left @ right)


def test_tucker_and_tensor_train_sum_over_their_unfoldings():
    values = stack(2, 4, 3)
    array = values.numpy()

    def nuclear(matrix: np.ndarray) -> float:
        return float(np.linalg.norm(matrix, ord="nuc"))

    unfolded = [
        nuclear(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)) for axis in range(3)
    ]
    split = [nuclear(array.reshape(2, 12)), nuclear(array.reshape(8, 3))]
    assert math.isclose(float(TraceNorm(1.0, form="LAF").measure(values)), unfolded[-1])
    assert math.isclose(float(TraceNorm(1.0, form="Tucker").measure(values)), sum(unfolded))
    assert math.isclose(float(TraceNorm(1.0, form="TT").measure(values)), sum(split))


def test_the_trace_norm_makes_the_stack_exactly_of_low_rank_and_then_zero():
    values = stack(2, 4, 3)
    singular = torch.linalg.svdvals(values.reshape(8, 3))
    between = float(singular[:2].mean())
    new = TraceNorm(1.0).shrink(values, between)
    assert torch.linalg.matrix_rank(new.reshape(8, 3)) == 1
    assert not TraceNorm(1.0).shrink(values, 1.01 * float(singular[0])).any()


@pytest.mark.parametrize("amount", [0.1, 1.0])
def test_singular_values_are_thresholded_as_optimality_asks(amount):
    values = stack(2, 4, 3)
    new = TraceNorm(1.0).shrink(values, amount)
    # values − new lies in amount · ∂‖new‖_*: of spectral norm amount, aligned with new.
    subgradient = ((values - new) / amount).reshape(8, 3)
    assert torch.linalg.matrix_norm(subgradient, ord=2) <= 1 + 1e-12
    aligned = (subgradient * new.reshape(8, 3)).sum()
    assert torch.allclose(aligned, TraceNorm(1.0).measure(new))


@pytest.mark.parametrize("form", ["Tucker", "TT"])
def test_the_other_trace_norms_have_no_proximal_map(form):
    with pytest.raises(UsageError, match=f"The {form} trace norm has no proximal map"):
        TraceNorm(1.0, form=form).proximal(networks(), 0.1)


def test_an_unknown_form_is_refused():
    with pytest.raises(UsageError, match="form must be one of LAF, Tucker, TT, not 'CP'"):
        TraceNorm(1.0, form="CP")


# All of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("amount", [0.03, 0.3])
def test_no_general_minimiser_beats_the_proximal_map(penalty, amount):
    values = stack(2, 3)
    ours = proximal_objective(penalty(1.0), penalty(1.0).shrink(values, amount), values, amount)
    theirs = minimised(penalty(1.0), values, amount)
    assert ours <= theirs + 1e-12
    assert math.isclose(ours, theirs, rel_tol=1e-4)


@pytest.mark.parametrize("penalty", EVERY_FORM)
def test_gradients_agree_with_finite_differences(penalty):
    model = networks()
    names = list(dict(model.named_parameters()))

    def of(*values: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, values, strict=True))
        return functional_call(_Called(model), _prefixed(state), (penalty(0.7),))

    assert torch.autograd.gradcheck(of, tuple(model.parameters()))


@pytest.mark.parametrize("penalty", EVERY_FORM)
def test_all_seeds_at_once_give_what_each_gives_alone(penalty):
    models = [networks() for _ in range(3)]
    state, _ = stack_module_state(models)
    called = _Called(deepcopy(models[0]))
    together = vmap(lambda own: functional_call(called, _prefixed(own), (penalty(0.7),)))(state)
    alone = torch.stack([penalty(0.7)(model) for model in models])
    assert torch.allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_proximal_maps_of_all_seeds_at_once_are_those_of_each(penalty):
    models = [networks() for _ in range(3)]
    state, _ = stack_module_state(models)
    called = _Called(deepcopy(models[0]))

    def pull(model: nn.Module) -> dict[str, torch.Tensor]:
        return penalty(2.0).proximal(model, 0.1)

    with torch.no_grad():
        together = vmap(lambda own: functional_call(called, _prefixed(own), (pull,)))(state)
        for number, model in enumerate(models):
            alone = pull(model)
            assert set(alone) == set(together)
            for name, values in alone.items():
                assert torch.allclose(together[name][number], values, rtol=0, atol=1e-13)


class _Called(nn.Module):
    """Lets `functional_call` give a model other parameters while a function looks at it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[nn.Module], Any]) -> Any:
        return function(self.model)


def _prefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"model.{name}": values for name, values in state.items()}


def test_permuted_hidden_units_compute_the_same_at_a_large_distance():
    model = networks(same_start=True)
    permutation = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for name in ("0.weight", "0.bias"):
            first = model.get_parameter(f"branches.maize.{name}")
            first.copy_(first[permutation])
        last = model.get_parameter("branches.maize.2.weight")
        last.copy_(last[:, permutation])
    predicted = model(stack(7, 5))
    assert torch.allclose(predicted["wheat"], predicted["maize"])
    assert SquaredDistance(1.0)(model) > 0.1
    assert SquaredDistance(1.0)(networks(same_start=True)) == 0


# In training --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_the_loss", "dampening", "counts_for"),
    [
        pytest.param(True, 0.5, 1.0, id="in the loss"),
        pytest.param(False, 0.5, 1.0, id="proximal, dampened momentum"),
        pytest.param(False, 0.0, 0.5, id="proximal, plain momentum"),
    ],
)
def test_only_dampened_momentum_gives_a_proximal_strength_its_meaning(
    in_the_loss, dampening, counts_for
):
    """Losses ½‖θ_t − c_t‖², whose penalised minimum divides c_t's deviations by 1 + 2 T λ."""
    strength, rate = 0.4, 0.2
    model = networks()
    parameters = dict(model.named_parameters())
    centres = {name: torch.randn_like(values) for name, values in parameters.items()}
    penalty = SquaredDistance(strength)
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=0.5, dampening=dampening)
    for _ in range(150):
        optimiser.zero_grad()
        losses = [
            (values - centres[name]).square().sum() / 2 for name, values in parameters.items()
        ]
        torch.stack([*losses, penalty(model) * in_the_loss]).sum().backward()
        optimiser.step()
        if not in_the_loss:
            with torch.no_grad():
                for name, values in penalty.proximal(model, rate).items():
                    parameters[name].copy_(values)
    goals = torch.stack([centres[f"branches.{name}.0.weight"] for name in CROPS], dim=-1)
    mean = goals.mean(-1, keepdim=True)
    expected = mean + (goals - mean) / (1 + 2 * 3 * counts_for * strength)
    found = stacked_parameters(model, ["branches"])["branches.*.0.weight"]
    assert torch.allclose(found, expected, atol=1e-8)


INPUTS = stack(30, 5)
TARGETS = {name: INPUTS[:, number].sin() for number, name in enumerate(CROPS)}


def trained(
    model: HardSharing,
    rate: float = 0.05,
    regulariser: SoftSharing | None = None,
    proximal: SoftSharing | None = None,
) -> HardSharing:
    """After a dozen steps on the sum of the tasks' losses."""
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, dampening=0.9)
    parameters = dict(model.named_parameters())
    for _ in range(12):
        optimiser.zero_grad()
        predicted = model(INPUTS)
        losses = [(predicted[name][:, 0] - y).square().mean() for name, y in TARGETS.items()]
        if regulariser is not None:
            losses.append(regulariser(model))
        torch.stack(losses).sum().backward()
        optimiser.step()
        if proximal is not None:
            with torch.no_grad():
                for name, values in proximal.proximal(model, rate).items():
                    parameters[name].copy_(values)
    return model


def assert_equal_predictions(one: HardSharing, other: HardSharing) -> None:
    torch.testing.assert_close(one(INPUTS), other(INPUTS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_strength_zero_is_separate_networks(penalty):
    start = networks(same_start=True)
    separate = trained(deepcopy(start))
    assert_equal_predictions(trained(deepcopy(start), proximal=penalty(0.0)), separate)
    assert_equal_predictions(trained(deepcopy(start), regulariser=penalty(0.0)), separate)


def test_infinite_strength_is_one_network_with_the_mean_gradient():
    start = networks(same_start=True)
    one = networks(branch_at=3)
    one.trunk.load_state_dict(start.branches["wheat"].state_dict())
    trained(one, rate=0.05 / 3)
    for penalty in (SquaredDistance(math.inf), AbsoluteDistance(100.0)):
        assert_equal_predictions(trained(deepcopy(start), proximal=penalty), one)
    separate = trained(deepcopy(start))
    assert (separate(INPUTS)["maize"] - one(INPUTS)["maize"]).abs().max() > 0.01


# In other models ----------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """A user's model with separate networks somewhere within."""

    def __init__(self, inner: HardSharing) -> None:
        super().__init__()
        self.net = nn.ModuleDict({"inner": inner})


def test_the_tied_dictionaries_may_lie_deeper():
    inner = networks()
    own, deep = SquaredDistance(0.7), SquaredDistance(0.7, tied=("net.inner.branches",))
    assert own(inner) == deep(Wrapped(inner))
    expected = own.proximal(inner, 0.1)
    found = deep.proximal(Wrapped(inner), 0.1)
    assert set(found) == {f"net.inner.{name}" for name in expected}
    for name, values in expected.items():
        assert torch.equal(found[f"net.inner.{name}"], values)


def test_a_stack_that_is_named_like_a_task_is_no_trap():
    """Paths are compared part by part: here a task and a layer are called as the dictionary is."""
    heads = {name: nn.Identity() for name in ("branches", "other")}
    model = separate_networks(lambda: [nn.ModuleDict({"branches": nn.Linear(2, 2)})], heads)
    found = SquaredDistance(1.0).proximal(model, 0.1)
    assert set(found) == dict(model.named_parameters()).keys()
