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

from mtlbook.architectures.cross_stitch import CrossStitch, cross_stitch, parameter_groups
from mtlbook.errors import UsageError
from mtlbook.layers.dropout import Dropout
from mtlbook.layers.schedule import advance
from mtlbook.randomness import generator

NAMES = ("segments", "normals", "depth", "edges")


pytestmark = pytest.mark.usefixtures("double")


def dense() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(5, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 4), nn.Tanh())]


def convolutional() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()),
    ]


def network(
    columns: int = 2,
    stages: Callable[[], Sequence[nn.Module]] = dense,
    **options: Any,
) -> CrossStitch:
    layer = nn.Linear if stages is dense else partial(nn.Conv2d, kernel_size=1)
    return CrossStitch(stages, {name: layer(4, 2) for name in NAMES[:columns]}, **options)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def inputs(stages: Callable[[], Sequence[nn.Module]]) -> Tensor:
    return random(7, 5) if stages is dense else random(3, 2, 6, 6)


def set_mixing(model: CrossStitch, *values: Tensor) -> None:
    with torch.no_grad():
        for alpha, new in zip(model.mixing, values, strict=True):
            alpha.copy_(new)


def randomise_mixing(model: CrossStitch) -> None:
    shapes = [alpha.shape for alpha in model.mixing]
    set_mixing(model, *(random(*shape, purpose=str(n)) for n, shape in enumerate(shapes)))


def by_loop(model: CrossStitch, x: Tensor) -> dict[str, Tensor]:
    """The same network column by column, channel by channel, with Python's own sums."""
    names = list(model.heads)
    features = [x] * len(names)
    for place, alpha in enumerate(model.mixing):
        stages = [model.columns[name].get_submodule(str(place)) for name in names]
        computed = [stage(own) for stage, own in zip(stages, features, strict=True)]
        features = []
        for i in range(len(names)):
            terms = []
            for j, own in enumerate(computed):
                weight = alpha[i, j].view(-1, *[1] * (own.ndim - 2))
                terms.append(weight * own)
            features.append(torch.stack(terms).sum(0))
    return {name: model.heads[name](own) for name, own in zip(names, features, strict=True)}


# The unit -----------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(0, 100))
def test_the_identity_changes_nothing_at_all(columns, seed):
    features = torch.randn(columns, 3, 2, generator=generator(seed, "features"))
    identity = torch.eye(columns)
    assert torch.equal(cross_stitch(identity, features), features)
    by_channel = identity.unsqueeze(-1).expand(-1, -1, 2)
    assert torch.equal(cross_stitch(by_channel, features), features)


def test_the_second_axis_gives_and_the_first_takes():
    features = torch.stack([torch.full((1, 1), 10.0), torch.full((1, 1), 20.0)])
    alpha = torch.tensor([[0.5, 0.25], [0.0, 2.0]])
    assert cross_stitch(alpha, features).flatten().tolist() == [10.0, 40.0]


def test_channels_are_mixed_each_by_its_own_unit():
    features, alpha = random(2, 3, 4, 5, 5), random(2, 2, 4, purpose="alpha")
    mixed = cross_stitch(alpha, features)
    for channel in range(4):
        alone = cross_stitch(alpha[:, :, channel], features[:, :, channel])
        torch.testing.assert_close(mixed[:, :, channel], alone)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("places", [(), (2, 2)])
@pytest.mark.parametrize("columns", [2, 5])
def test_a_mixture_is_the_sum_in_one_or_all_replicas(columns, places, by_channel):
    shape = (columns, columns, 3) if by_channel else (columns, columns)
    alpha = random(2, *shape, purpose="alpha").requires_grad_()
    features = random(2, columns, 4, 3, *places).requires_grad_()
    weights = alpha if by_channel else alpha.unsqueeze(-1).expand(-1, -1, -1, 3)
    expected = torch.einsum("sijc,sjnc...->sinc...", weights, features)
    torch.testing.assert_close(torch.func.vmap(cross_stitch)(alpha, features), expected)
    torch.testing.assert_close(cross_stitch(alpha[0], features[0]), expected[0])
    own = alpha[0].detach().requires_grad_(), features[0, :, :2].detach().requires_grad_()
    assert torch.autograd.gradcheck(cross_stitch, own)
    assert torch.autograd.gradgradcheck(cross_stitch, own)


# The network --------------------------------------------------------------------------------------


def test_two_columns_by_hand():
    """Equation 1 of the paper, written out for two columns of two layers."""
    model = network()
    alpha = torch.tensor([[0.7, 0.4], [-0.2, 1.1]])
    beta = torch.tensor([[0.3, 0.6], [0.5, 0.2]])
    set_mixing(model, alpha, beta)
    x = inputs(dense)
    a, b = model.columns["segments"], model.columns["normals"]
    a1, b1 = a.get_submodule("0")(x), b.get_submodule("0")(x)
    a1, b1 = 0.7 * a1 + 0.4 * b1, -0.2 * a1 + 1.1 * b1
    a2, b2 = a.get_submodule("1")(a1), b.get_submodule("1")(b1)
    a2, b2 = 0.3 * a2 + 0.6 * b2, 0.5 * a2 + 0.2 * b2
    predictions = model(x)
    torch.testing.assert_close(predictions["segments"], model.heads["segments"](a2))
    torch.testing.assert_close(predictions["normals"], model.heads["normals"](b2))


@pytest.mark.parametrize("channels", [None, "own"])
@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_the_network_is_the_loop_over_columns_and_channels(columns, stages, channels):
    own = {dense: (6, 4), convolutional: (3, 4)}[stages]
    model = network(columns, stages, channels=None if channels is None else own)
    randomise_mixing(model)
    x = inputs(stages)
    found, looped = model(x), by_loop(model, x)
    assert list(found) == list(NAMES[:columns])
    for name, prediction in found.items():
        torch.testing.assert_close(prediction, looped[name], rtol=1e-12, atol=1e-13)
    parameters = list(model.parameters())
    gradients = [
        torch.autograd.grad(torch.stack(list(made.values())).square().sum(), parameters)
        for made in (found, looped)
    ]
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_with_the_identity_the_columns_are_separate_networks(columns, stages):
    model = network(columns, stages, same=1.0)
    assert all(torch.equal(alpha, torch.eye(columns)) for alpha in model.mixing)
    x = inputs(stages)
    predictions = model(x)
    for name in NAMES[:columns]:
        column = model.columns[name]
        others = [p for other in NAMES[:columns] if other != name
                  for p in model.columns[other].parameters()]  # fmt: skip
        separate = model.heads[name](column(x))
        torch.testing.assert_close(predictions[name], separate, rtol=1e-13, atol=1e-14)
        loss = predictions[name].square().sum()
        own = list(column.parameters())
        mine = torch.autograd.grad(loss, own, retain_graph=True)
        theirs = torch.autograd.grad(separate.square().sum(), own)
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
        # Nothing of this task's loss arrives in another column: exactly nothing.
        for gradient in torch.autograd.grad(loss, others, retain_graph=True):
            assert not bool(gradient.any())


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("channels", [None, (6, 4)])
def test_units_start_as_convex_combinations(columns, channels):
    for alpha in network(columns, channels=channels).mixing:
        rows = alpha.detach().sum(1)
        torch.testing.assert_close(rows, torch.ones_like(rows))
        first_row = alpha.detach()[0].reshape(columns, -1)[:, 0]
        expected = [0.9, *[0.1 / (columns - 1)] * (columns - 1)]
        assert first_row.tolist() == pytest.approx(expected)


def test_equal_rows_give_every_column_the_same():
    model = network(3)
    set_mixing(model, *[torch.tensor([0.2, 0.3, 0.5]).expand(3, 3)] * 2)
    with torch.no_grad():
        for head in model.heads.values():
            head.load_state_dict(model.heads["segments"].state_dict())
    first, second, third = model(inputs(dense)).values()
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, third)


def test_columns_cost_what_the_separate_networks_cost():
    """But for the units: 2 K² operations for each number that a column passes on."""
    model, rows = network(3), 7
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(inputs(dense))
    layers = 5 * 6 + 6 * 4 + 4 * 2
    assert counter.get_total_flops() == 2 * rows * (3 * layers + 9 * (6 + 4))


def test_stages_with_buffers_keep_their_own():
    """Running statistics advance in each column as they would alone, and masks differ."""

    def stages() -> list[nn.Module]:
        return [nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), Dropout(0.5))]

    model = CrossStitch(stages, {name: nn.Linear(4, 2) for name in NAMES[:2]}, same=1.0)
    x = inputs(dense)
    advance(model, 0.0)
    model(x)
    first, second = (dict(model.columns[name].named_buffers()) for name in NAMES[:2])
    assert int(first["0.2.step"]) == int(second["0.2.step"]) == 1
    assert int(first["0.2.key"]) != int(second["0.2.key"])
    mean = model.columns["normals"].get_submodule("0.0")(x).mean(0)
    torch.testing.assert_close(second["0.1.running_mean"], 0.1 * mean)
    assert not torch.allclose(first["0.1.running_mean"], second["0.1.running_mean"])


class Scale(nn.Module):
    """A layer without parameters whose number is invisible in its `repr`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        return self.factor * features


def test_stages_that_look_alike_compute_each_its_own():
    factors = iter([1.0, -1.0])
    heads = {name: nn.Identity() for name in NAMES[:2]}
    model = CrossStitch(lambda: [Scale(next(factors))], heads, same=1.0)
    assert {name: float(p.detach()) for name, p in model(torch.ones(1, 1)).items()} == {
        "segments": 1.0,
        "normals": -1.0,
    }


def test_a_layer_may_stand_twice_in_a_column():
    def stages() -> list[nn.Module]:
        layer = nn.Linear(5, 5)
        return [layer, nn.Tanh(), layer]

    model = CrossStitch(stages, {name: nn.Identity() for name in NAMES[:2]}, same=1.0)
    x = inputs(dense)
    torch.testing.assert_close(model(x)["normals"], model.columns["normals"](x))
    assert len(list(model.columns.parameters())) == 4


def test_pytorchs_own_dropout_works_in_a_plain_loop():
    model = CrossStitch(
        lambda: [nn.Dropout(0.5)], {"a": nn.Identity(), "b": nn.Identity()}, same=1.0
    )
    first, second = model(torch.ones(100, 3)).values()
    assert set(first.flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(first, second)


def test_columns_may_differ_in_their_layers():
    """Here convolutions of two sizes, whose outputs agree."""
    sizes = iter([3, 5])

    def stages() -> list[nn.Module]:
        size = next(sizes)
        return [nn.Conv2d(2, 4, size, padding=size // 2)]

    heads = {name: nn.Conv2d(4, 2, 1) for name in NAMES[:2]}
    model = CrossStitch(stages, heads)
    x = inputs(convolutional)
    first, second = (model.columns[name](x) for name in NAMES[:2])
    mixed = model.heads["segments"](0.9 * first + 0.1 * second)
    torch.testing.assert_close(model(x)["segments"], mixed)


def test_a_column_starts_from_a_trained_network():
    model, trained = network(2, same=1.0), nn.Sequential(*dense())
    head, x = nn.Linear(4, 2), inputs(dense)
    before = model(x)["segments"]
    model.columns["normals"].load_state_dict(trained.state_dict())
    model.heads["normals"].load_state_dict(head.state_dict())
    after = model(x)
    torch.testing.assert_close(after["normals"], head(trained(x)))
    assert torch.equal(after["segments"], before)


# Training -----------------------------------------------------------------------------------------


def test_the_units_learn_a_hundred_times_as_fast():
    model = network()
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    optimiser = torch.optim.SGD(parameter_groups(model.named_parameters(), 1e-3))
    torch.stack(list(model(inputs(dense)).values())).square().sum().backward()
    optimiser.step()
    for name, values in model.named_parameters():
        assert values.grad is not None
        rate = 1e-1 if name.startswith("mixing") else 1e-3
        torch.testing.assert_close(before[name] - values, rate * values.grad)


def test_the_units_are_found_by_their_path_and_not_by_a_name_within_it():
    """In a wrapper, and beside a task that is called as the units are."""
    heads = {"mixing": nn.Linear(4, 2), "premixing": nn.Linear(4, 2)}
    wrapper = nn.ModuleDict({"model": CrossStitch(dense, heads)})
    others, units = parameter_groups(wrapper.named_parameters(), 0.1)
    assert [name for name, _ in units["params"]] == ["model.mixing.0", "model.mixing.1"]
    assert len(others["params"]) == 2 * (4 + 2)


@pytest.mark.parametrize("channels", [None, (6, 4)])
def test_replicas_all_at_once_equal_one_after_another(channels):
    """As in `fit`: predictions and gradients of all seeds by one call."""
    models = [network(3, channels=channels) for _ in range(3)]
    for model in models:
        randomise_mixing(model)
    parameters, _ = stack_module_state(models)
    x = random(3, 7, 5)

    def loss(own: dict[str, Tensor], rows: Tensor) -> Tensor:
        predicted = functional_call(models[0], own, (rows,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, x)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


# What is refused ----------------------------------------------------------------------------------


def test_a_single_column_is_refused():
    with pytest.raises(UsageError, match="at least two tasks"):
        network(1)


def test_columns_that_are_one_are_refused():
    layers = dense()
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        network(stages=lambda: layers)


def test_columns_of_different_depths_are_refused():
    depths = iter([1, 2])
    heads = {name: nn.Identity() for name in NAMES[:2]}
    with pytest.raises(UsageError, match="the same number"):
        CrossStitch(lambda: [nn.Linear(5, 5) for _ in range(next(depths))], heads)
    with pytest.raises(UsageError, match="at least one"):
        CrossStitch(list, heads)


def test_columns_of_different_outputs_are_refused():
    widths = iter([4, 3])
    heads = {name: nn.Identity() for name in NAMES[:2]}
    model = CrossStitch(lambda: [nn.Linear(5, next(widths))], heads)
    with pytest.raises(UsageError, match=r"different shapes, \[\(4,\), \(3,\)\]"):
        model(inputs(dense))


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(UsageError, match="1 numbers of channels for 2 stages"):
        network(channels=(6,))
    with pytest.raises(UsageError, match=r"for 5 channels stands behind a stage that gives 6"):
        network(channels=(5, 4))(inputs(dense))


def test_groups_of_a_model_without_units_are_refused():
    with pytest.raises(UsageError, match="no cross-stitch unit"):
        parameter_groups(nn.Linear(2, 2).named_parameters(), 0.1)
