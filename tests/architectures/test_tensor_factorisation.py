"""Tensor factorisation: exact limiting cases, and the loop over tasks as an independent oracle."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mtlbook.architectures.tensor_factorisation import (
    TensorFactorisation,
    principal_angles,
    ranks_of,
    sharing_strength,
    stacked,
)
from mtlbook.errors import UsageError
from mtlbook.layers.dropout import Dropout
from mtlbook.layers.schedule import advance
from mtlbook.layers.tensor_factors import FORMS
from mtlbook.randomness import generator
from tests.equal import exactly

NAMES = ("one", "two", "three", "four", "five", "six")

pytestmark = pytest.mark.usefixtures("double")


def dense() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(5, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 4), nn.Tanh())]


def convolutional() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)),
    ]


def unbiased() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Linear(5, 6, bias=False), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh()),
    ]


def network(
    tasks: int = 3, stages: Callable[[], Sequence[nn.Module]] = dense, **options: Any
) -> TensorFactorisation:
    heads = {name: nn.Linear(4, 2, bias=False) for name in NAMES[:tasks]}
    return TensorFactorisation(stages, heads, **options)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def inputs(stages: Callable[[], Sequence[nn.Module]]) -> Tensor:
    return random(3, 2, 6, 6) if stages is convolutional else random(7, 5)


def networks(
    stages: Callable[[], Sequence[nn.Module]] = dense, tasks: int = 3
) -> dict[str, nn.Sequential]:
    return {name: nn.Sequential(*stages()) for name in NAMES[:tasks]}


def written_out(factors: Sequence[Tensor], form: str) -> np.ndarray:
    """The tensor by NumPy, from the equations: a sum over all components."""
    own = [factor.detach().numpy() for factor in factors]
    if form == "Tucker":
        core, *matrices = own
        total = np.zeros([len(matrix) for matrix in matrices])
        for place in np.ndindex(*core.shape):
            columns = (matrix[:, k] for matrix, k in zip(matrices, place, strict=True))
            total += reduce(np.multiply.outer, columns, np.asarray(core[place]))
        return total
    total = own[0]  # LAF: layers and mixing; TT: a chain of any length
    for right in own[1:]:
        terms = [np.multiply.outer(total[..., k], right[k]) for k in range(len(right))]
        total = np.sum(terms, axis=0)
    return total


def by_loop(model: TensorFactorisation, x: Tensor) -> dict[str, Tensor]:
    """The same network task after task, each a plain `nn.Sequential` with its own weights."""
    found = {}
    for number, (name, head) in enumerate(model.heads.items()):
        stages = convolutional() if x.ndim == 4 else dense()
        column = nn.Sequential(*stages)
        own: dict[str, Tensor] = dict(column.named_parameters())
        for weight, factors in model.factors.items():
            own[weight] = torch.from_numpy(written_out(list(factors), model.form))[..., number]
        for key, biases in model.named_parameters():
            if ".own." in key:
                _, place, _, name_of_bias = key.split(".")
                own[f"{place}.{name_of_bias.replace('/', '.')}"] = biases[number]
        found[name] = head(functional_call(column, own, (x,)))
    return found


# The factors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("tasks", [2, 6])
def test_the_network_is_the_loop_over_tasks_and_components(tasks, stages, form):
    model = network(tasks, stages, form=form, ranks=2)
    for number, values in enumerate(model.parameters()):
        with torch.no_grad():
            values.copy_(random(*values.shape, purpose=str(number)) / values.numel() ** 0.25)
    x = inputs(stages)
    found, looped = model(x), by_loop(model, x)
    assert list(found) == list(NAMES[:tasks])
    for name, prediction in found.items():
        torch.testing.assert_close(prediction, looped[name], rtol=1e-12, atol=1e-12)
    for name, stack in model.weights.items():
        expected = written_out(list(model.factors[name]), form)
        np.testing.assert_allclose(stack.detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_finite_differences(form):
    model = network(3, form=form, ranks=2)
    x = inputs(dense)
    names = [name for name, _ in model.named_parameters() if "factors" in name]
    values = [dict(model.named_parameters())[name] for name in names]

    def predictions(*own: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, own, strict=True))
        return tuple(functional_call(model, given, (x,)).values())

    own = tuple(value.detach().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(predictions, own)


# Limiting cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stages", [dense, convolutional])
def test_with_error_0_the_product_is_the_stack_and_predictions_are_the_networks(stages, form):
    model, trained, x = network(3, stages, form=form), networks(stages), inputs(stages)
    model.factorise(trained)
    for name, stack in stacked(trained).items():
        exactly(model.weights[name], stack)
    for name, prediction in model(x).items():
        exactly(prediction, model.heads[name](trained[name](x)))


def descend(model: nn.Module, x: Tensor, steps: int = 5) -> list[Tensor]:
    """The task losses of a few steps of gradient descent on their sum."""
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = []
    for _ in range(steps):
        losses = torch.stack([(own - 1).square().mean() for own in model(x).values()])
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
        found.append(losses.detach())
    return found


class Separate(nn.Module):
    """A network a task, by hand."""

    def __init__(self, columns: dict[str, nn.Sequential], heads: nn.ModuleDict) -> None:
        super().__init__()
        self.columns, self.heads = nn.ModuleDict(columns), heads

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: self.heads[name](column(x)) for name, column in self.columns.items()}


@pytest.mark.parametrize("stages", [dense, convolutional])
def test_with_the_identity_tasks_are_separate_networks_always(stages):
    model, columns, x = network(3, stages), networks(stages), inputs(stages)
    separate = Separate(columns, network(3, stages).heads)
    model.heads.load_state_dict(separate.heads.state_dict())
    model.factorise(columns)
    with torch.no_grad():
        for name, stack in stacked(columns).items():
            layers, mixing = model.factors[name]
            layers.copy_(stack)
            mixing.copy_(torch.eye(3))
            mixing.requires_grad_(False)
    for mine, theirs in zip(descend(model, x), descend(separate, x), strict=True):
        exactly(mine, theirs)


class Hard(nn.Module):
    """One trunk, by hand."""

    def __init__(self, trunk: nn.Sequential, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, heads

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: head(self.trunk(x)) for name, head in self.heads.items()}


def test_with_one_row_of_ones_it_is_hard_sharing_always():
    model, trunk, x = network(3, unbiased, ranks=1), nn.Sequential(*unbiased()), inputs(unbiased)
    hard = Hard(trunk, network(3, unbiased).heads)
    model.heads.load_state_dict(hard.heads.state_dict())
    with torch.no_grad():
        for name, weight in trunk.named_parameters():
            layers, mixing = model.factors[name]
            layers.copy_(weight.unsqueeze(-1))
            mixing.fill_(1.0)
            mixing.requires_grad_(False)
    for mine, theirs in zip(descend(model, x), descend(hard, x), strict=True):
        exactly(mine, theirs)


def test_a_linear_layer_with_one_output_is_go_mtl_without_its_penalty():
    """W = L S, a column a task (Kumar and Daumé, 2012): loss and gradients by hand."""
    tasks = NAMES[:4]
    model = TensorFactorisation(
        lambda: [nn.Linear(5, 1, bias=False)], {name: nn.Identity() for name in tasks}, ranks=2
    )
    layers, mixing = model.factors["0.weight"]
    x, y = random(7, 5), random(7, 4, purpose="targets")
    basis = layers[0].detach()  # (inputs, components)
    residual = x @ basis @ mixing.detach() - y
    predicted = torch.cat(list(model(x).values()), dim=1)
    exactly(predicted - y, residual)
    gradients = torch.autograd.grad((predicted - y).square().sum(), [layers, mixing])
    exactly(gradients[0][0], 2 * x.T @ residual @ mixing.detach().T)
    exactly(gradients[1], 2 * basis.T @ x.T @ residual)


def test_one_task_axis_of_full_rank_loses_nothing_and_counts_more_parameters():
    model, columns = network(6, form="LAF"), networks(dense, 6)
    stacks = stacked(columns).values()
    separate = sum(stack.numel() for stack in stacks)
    mine = sum(p.numel() for own in model.factors.values() for p in own)
    assert mine == separate + len(stacks) * 6 * 6


# Truncation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("stages", [dense, convolutional])
def test_a_truncated_start_is_within_the_bound_of_its_cuts(stages, error, form):
    model, trained = network(3, stages, form=form), networks(stages)
    model.factorise(trained, error=error)
    wanted = ranks_of(trained, form, error)
    for name, stack in stacked(trained).items():
        cuts = {"LAF": 1, "Tucker": stack.ndim, "TT": stack.ndim - 1}[form]
        rest = (model.weights[name].detach() - stack).norm()
        assert float(rest) <= error * float(stack.norm()) * cuts**0.5 + 1e-12
        # What lies beyond the ranks is zero: as many components are alive as the error asks for.
        alive = [
            int(factor.detach().flatten(0, -2).abs().sum(0).count_nonzero())
            for factor in list(model.factors[name])[
                slice(1, None) if form == "Tucker" else slice(-1)
            ]
        ]
        assert tuple(alive) == wanted[name]


@pytest.mark.parametrize("form", FORMS)
def test_components_that_start_at_zero_stay_there(form):
    """So replicas of different ranks are one program: a mask without a mask."""
    trained, x = networks(), inputs(dense)
    wanted = ranks_of(trained, form, 0.5)
    padded, small = network(3, form=form), network(3, form=form, ranks=wanted)
    small.heads.load_state_dict(padded.heads.state_dict())
    padded.factorise(trained, error=0.5)
    small.factorise(trained, error=0.5)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in padded.parameters())
    for optimiser in (partial(torch.optim.Adam, lr=0.01), partial(torch.optim.SGD, lr=0.1)):
        pair = []
        for model in (padded, small):
            own = optimiser(model.parameters())
            for _ in range(3):
                own.zero_grad()
                torch.stack([p.square().mean() for p in model(x).values()]).sum().backward()
                own.step()
            pair.append(model(x))
        for name, prediction in pair[0].items():
            exactly(prediction, pair[1][name])


def test_networks_that_start_alike_and_move_little_need_fewer_components():
    first = nn.Sequential(*dense())
    near, far = networks(), networks()
    with torch.no_grad():
        for network_ in near.values():
            for mine, start in zip(network_.parameters(), first.parameters(), strict=True):
                mine.copy_(start + 0.01 * (mine - start))
    assert set(ranks_of(near, "LAF", 0.1).values()) == {(1,)}
    assert set(ranks_of(far, "LAF", 0.1).values()) == {(3,)}


@pytest.mark.parametrize("form", FORMS)
def test_an_untrained_layer_keeps_its_norm(form):
    """Truncation to few ranks would make a random start smaller than the layers that it is of."""
    torch.manual_seed(0)
    whole = network(6, form=form)
    torch.manual_seed(0)
    cut = network(6, form=form, ranks=2)
    for name, stack in whole.weights.items():
        torch.testing.assert_close(cut.weights[name].norm(), stack.norm())
        assert int(torch.linalg.matrix_rank(cut.weights[name].flatten(0, -2))) == 2


# Measures of sharing ------------------------------------------------------------------------------


def test_the_papers_strength_calls_separate_networks_strongly_shared():
    found = [float(sharing_strength(torch.eye(tasks))) for tasks in (2, 10, 50)]
    assert found == pytest.approx([0.648, 0.820, 0.948], abs=1e-3)
    e = np.e
    by_hand = [(2 * e + tasks - 2) / (e * e + tasks - 1) for tasks in (2, 10, 50)]
    assert found == pytest.approx(by_hand, abs=1e-12)


def test_the_papers_strength_moves_where_the_network_does_not_and_angles_stay():
    model = network(3)
    x = inputs(dense)
    before = model(x)
    layers, mixing = model.factors["0.0.weight"]
    strength = float(sharing_strength(mixing.detach()))
    angles = principal_angles(*(own.T for own in model.weights["0.0.weight"].movedim(-1, 0)[:2]))
    with torch.no_grad():
        layers.mul_(10.0)
        mixing.div_(10.0)
    for name, prediction in model(x).items():
        exactly(prediction, before[name])
    assert abs(float(sharing_strength(mixing.detach())) - strength) > 0.05
    again = principal_angles(*(own.T for own in model.weights["0.0.weight"].movedim(-1, 0)[:2]))
    torch.testing.assert_close(again, angles)


def test_principal_angles_are_those_of_scipy():
    from scipy.linalg import subspace_angles

    first, second = random(9, 3), random(9, 4, purpose="second")
    expected = np.sort(subspace_angles(first.numpy(), second.numpy()))
    np.testing.assert_allclose(principal_angles(first, second).numpy(), expected, atol=1e-12)


# Training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stages", [dense, convolutional])
def test_replicas_all_at_once_equal_one_after_another(stages, form):
    """As in `fit`: predictions and gradients of all seeds by one call."""
    models = [network(3, stages, form=form, ranks=2) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    x = torch.stack([inputs(stages) * (number + 1) for number in range(3)])

    def loss(own: dict[str, Tensor], rest: dict[str, Tensor], rows: Tensor) -> Tensor:
        predicted = functional_call(models[0], own | rest, (rows,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, buffers, x)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), {}, x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


def test_state_dicts_are_ordinary():
    model, other, x = network(3), network(3), inputs(dense)
    own = model.state_dict()
    assert set(own) == set(dict(model.named_parameters()))
    other.load_state_dict(own)
    exactly(other(x)["one"], model(x)["one"])


def test_running_statistics_are_each_tasks_own_and_dropout_is_common():
    def stages() -> list[nn.Module]:
        return [nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), Dropout(0.5))]

    model, x = network(3, stages), inputs(dense)
    advance(model, 0.0)
    columns = networks(stages)
    model.factorise(columns)
    model(x)
    for number, column in enumerate(columns.values()):
        mean = column.get_submodule("0.0")(x).mean(0)
        torch.testing.assert_close(
            model.stages[0].get_buffer("1/running_mean")[number], 0.1 * mean.detach()
        )
    model.eval()
    dropped = [name for name in model.state_dict() if name.endswith("key")]
    assert len(dropped) == 1


def test_a_layer_may_stand_twice_in_a_stage():
    def stages() -> list[nn.Module]:
        layer = nn.Linear(5, 5)
        return [nn.Sequential(layer, nn.Tanh(), layer), nn.Linear(5, 4)]

    model, columns, x = network(3, stages), networks(stages), inputs(dense)
    model.factorise(columns)
    assert list(model.factors) == ["0.0.weight", "1.weight"]
    exactly(model(x)["two"], model.heads["two"](columns["two"](x)))


@pytest.mark.parametrize("form", FORMS)
def test_it_works_under_autocast(form):
    model = network(3, convolutional, form=form, ranks=2).float()
    x = inputs(convolutional).float()
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
    assert low["one"].dtype == torch.bfloat16
    torch.testing.assert_close(low["two"].float(), model(x)["two"], rtol=0.1, atol=0.05)


def test_stages_without_parameters_are_common():
    def stages() -> list[nn.Module]:
        return [nn.Flatten(), nn.Linear(72, 4), nn.Tanh()]

    model, columns = network(3, stages), networks(stages)
    model.factorise(columns)
    x = inputs(convolutional)
    exactly(model(x)["three"], model.heads["three"](columns["three"](x)))


def test_inputs_may_be_a_dictionary():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 5)

        def forward(self, given: dict[str, Tensor]) -> Tensor:
            return (self.table(given["tokens"]) * given["mask"].unsqueeze(-1)).mean(1)

    def stages() -> list[nn.Module]:
        return [Words(), nn.Linear(5, 4)]

    model, columns = network(3, stages), networks(stages)
    model.factorise(columns)
    given = {"tokens": torch.arange(6).view(2, 3), "mask": torch.ones(2, 3)}
    exactly(model(given)["three"], model.heads["three"](columns["three"](given)))


# What is refused ----------------------------------------------------------------------------------


def test_a_single_task_is_refused():
    with pytest.raises(UsageError, match="at least two tasks"):
        network(1)


def test_an_unknown_form_is_refused():
    with pytest.raises(UsageError, match="'LAF', 'Tucker' or 'TT', not 'CP'"):
        network(form="CP")


def test_layers_that_are_one_are_refused_and_so_are_none():
    layers = dense()
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        network(stages=lambda: layers)
    with pytest.raises(UsageError, match="at least one stage"):
        network(stages=list)


def test_stages_of_unequal_shape_are_refused():
    widths = iter([4, 4, 3])
    with pytest.raises(UsageError, match=r"'one' and 'three' differ in 0.bias: .* same shapes"):
        network(stages=lambda: [nn.Linear(5, next(widths))])


@pytest.mark.parametrize(
    ("form", "ranks", "largest"),
    [
        ("LAF", 4, r"\(3,\)"),
        ("LAF", 0, r"\(3,\)"),
        ("Tucker", 4, r"\(6, 5, 3\)"),
        ("TT", 4, r"\(6, 3\)"),
        ("Tucker", {"0.0.weight": (7, 5, 3)}, r"\(6, 5, 3\)"),
        ("TT", {"0.0.weight": (6,)}, r"\(6, 3\)"),
    ],
)
def test_ranks_above_the_layers_size_are_refused(form, ranks, largest):
    with pytest.raises(UsageError, match=f"0.0.weight, .* at most {largest}"):
        network(3, form=form, ranks=ranks)


def test_a_start_from_other_networks_is_refused():
    model = network(3)
    with pytest.raises(UsageError, match=r"networks for \['one', 'two'\]"):
        model.factorise(networks(tasks=2))
    with pytest.raises(UsageError, match="train the networks with the model's own stages"):
        model.factorise(networks(convolutional))
