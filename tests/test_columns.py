from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from mtlbook.columns import Columns
from mtlbook.errors import UsageError
from mtlbook.randomness import generator

pytestmark = pytest.mark.usefixtures("double")


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "features"))


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (7, 5)),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), (7, 5)),
    "linear at each position": (lambda: nn.Linear(5, 4), (7, 3, 5)),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (3, 4, 8, 8)),
    "convolution of groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (3, 4, 8, 8)),
    "convolution, reflected": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        (3, 4, 8, 8),
    ),
    "sequence": (
        lambda: nn.Sequential(nn.Conv2d(4, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)),
        (3, 4, 6, 6),
    ),
    "no rule of its own": (lambda: nn.Sequential(nn.LayerNorm(5), nn.AvgPool1d(5)), (7, 5)),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("number", [1, 2, 5])
def test_columns_compute_what_their_modules_compute(name, number):
    make, shape = MODULES[name]
    modules = [make() for _ in range(number)]
    columns, features = Columns(modules), random(number, *shape)
    alone = torch.stack([module(own) for module, own in zip(modules, features, strict=True)])
    torch.testing.assert_close(columns(features), alone, rtol=1e-12, atol=1e-13)
    columns(features).square().sum().backward()
    alone.square().sum().backward()
    for parameter, values in columns.stacked.named_parameters():
        for number, module in enumerate(modules):
            assert values.grad is not None
            theirs = module.get_parameter(parameter).grad
            torch.testing.assert_close(values.grad[number], theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("number", [2, 5])
def test_replicas_of_columns_are_computed_at_once(name, number):
    """As in `fit`, where the parameters are stacked once more, over seeds."""
    make, shape = MODULES[name]
    replicas = [Columns([make() for _ in range(number)]) for _ in range(3)]
    parameters, _ = stack_module_state(replicas)
    features = random(3, number, *shape)

    def one(own: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return torch.func.functional_call(replicas[0], own, (inputs,))

    together = vmap(one)(parameters, features)
    apart = torch.stack([each(own) for each, own in zip(replicas, features, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-13)


def test_a_layer_that_overrides_linear_keeps_its_own_rule():
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return 2 * super().forward(input)

    modules = [Doubled(5, 4), Doubled(5, 4)]
    features = random(2, 7, 5)
    expected = torch.stack([m(own) for m, own in zip(modules, features, strict=True)])
    torch.testing.assert_close(Columns(modules)(features), expected)


def test_frozen_parameters_stay_frozen():
    modules = [nn.Linear(5, 4).requires_grad_(False) for _ in range(2)]
    assert not any(values.requires_grad for values in Columns(modules).parameters())


def test_a_column_is_loaded_and_taken_out():
    columns, trained = Columns([nn.Linear(5, 4) for _ in range(3)]), nn.Linear(5, 4)
    others = columns.column(0), columns.column(2)
    columns.load(1, trained.state_dict())
    features = random(7, 5)
    assert torch.equal(columns.column(1)(features), trained(features))
    for number, before in zip((0, 2), others, strict=True):
        assert torch.equal(columns.column(number)(features), before(features))


def test_a_column_with_buffers_is_loaded_with_them():
    columns, trained = Columns([nn.BatchNorm1d(5) for _ in range(2)]), nn.BatchNorm1d(5)
    trained(random(7, 5))
    columns.load(1, trained.state_dict())
    means = [columns.column(number).get_buffer("running_mean") for number in (0, 1)]
    assert not means[0].any()
    assert torch.equal(means[1], trained.get_buffer("running_mean"))


def test_weights_that_do_not_fit_are_refused():
    columns = Columns([nn.Linear(5, 4) for _ in range(2)])
    with pytest.raises(UsageError, match="do not fit the column"):
        columns.load(0, nn.Linear(5, 3).state_dict())


def test_columns_that_share_parameters_are_refused():
    layer = nn.Linear(5, 4)
    with pytest.raises(UsageError, match="share parameters"):
        Columns([layer, layer])


def test_outputs_of_different_shapes_are_refused():
    columns = Columns([nn.Linear(5, 4), nn.Linear(5, 3)])
    with pytest.raises(UsageError, match="different shapes"):
        columns(random(2, 7, 5))
