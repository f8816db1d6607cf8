"""Focusing attention: shares by hand, by autograd, and of random weights; the gradient left."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtlbook.auxiliary.focusing_attention import area_share, gradient_left, squared_input_gradients
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from tests.equal import exactly

pytestmark = pytest.mark.usefixtures("double")

AREA = torch.tensor([True, True, False, False, False, False])


def network(activation: nn.Module | None = None, outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), activation or nn.Tanh(), nn.Linear(5, outputs))


def by_hand(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Example by example and output by output."""
    squares = torch.zeros_like(x)
    for number, row in enumerate(x):
        one = row[None].clone().requires_grad_()
        for output in model(one)[0]:
            (gradient,) = torch.autograd.grad(output, one, retain_graph=True)
            squares[number] += gradient[0].square()
    return squares


@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_are_those_of_autograd_one_by_one(outputs: int):
    torch.manual_seed(0)
    model, x = network(outputs=outputs), torch.randn(4, 6)
    exactly(squared_input_gradients(model, x), by_hand(model, x))


def test_a_linear_models_share_is_that_of_its_squared_weights_for_any_inputs():
    weights = torch.tensor([[2.0, -1.0, 0.0, 3.0, 1.0, 0.5]])
    squared = squared_input_gradients(lambda x: x @ weights.T, torch.randn(9, 6))
    expected = weights[0].square()
    exactly(area_share(squared, AREA), expected[AREA].sum() / expected.sum())


@pytest.mark.parametrize("activation", [nn.Identity(), nn.Tanh(), nn.ReLU()])
def test_over_all_places_of_the_area_the_mean_share_is_its_share_of_the_inputs(
    activation: nn.Module,
):
    """Weights alike at every input: none of the places that an area can have is preferred."""
    torch.manual_seed(1)
    squared = squared_input_gradients(network(activation), torch.randn(8, 6))
    shares = []
    for chosen in itertools.combinations(range(6), 2):
        area = torch.zeros(6, dtype=torch.bool)
        area[list(chosen)] = True
        shares.append(area_share(squared, area))
    exactly(torch.stack(shares).mean(), torch.tensor(2 / 6))


def test_random_weights_look_at_an_area_as_its_size_says():
    shares = []
    for seed in range(300):
        torch.manual_seed(seed)
        shares.append(area_share(squared_input_gradients(network(), torch.randn(5, 6)), AREA))
    found = torch.stack(shares)
    assert abs(found.mean() - 2 / 6) < 4 * found.std() / 300**0.5


def test_the_whole_image_has_all_of_it_and_two_halves_add_up():
    torch.manual_seed(2)
    squared = squared_input_gradients(network(nn.ReLU()), torch.randn(8, 6))
    exactly(area_share(squared, torch.ones(6, dtype=torch.bool)), torch.tensor(1.0))
    exactly(area_share(squared, AREA) + area_share(squared, ~AREA), torch.tensor(1.0))


def test_images_and_convolutions():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 3 * 4, 1))
    x = torch.randn(3, 1, 5, 6)
    squared = squared_input_gradients(model, x)
    assert squared.shape == x.shape
    area = torch.zeros(1, 5, 6, dtype=torch.bool)
    area[0, :2, :3] = True
    exactly(area_share(squared, area), squared[:, 0, :2, :3].sum() / squared.sum())


def test_a_prediction_without_inputs_has_no_share():
    squared = squared_input_gradients(lambda x: 0 * x[:, :1], torch.ones(2, 6))
    assert area_share(squared, AREA).isnan()


def test_under_vmap_as_one_by_one():
    torch.manual_seed(4)
    models = [network() for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    x = torch.randn(3, 4, 6)

    def share(state: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        own = squared_input_gradients(
            lambda rows: torch.func.functional_call(models[0], state, rows), inputs
        )
        return area_share(own, AREA)

    together = torch.func.vmap(share)(stacked, x)
    apart = [area_share(by_hand(model, own), AREA) for model, own in zip(models, x, strict=True)]
    exactly(together, torch.stack(apart))


def test_it_leaves_the_models_gradients_alone_and_works_in_a_plain_loop():
    torch.manual_seed(5)
    trunk, main, cue = nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(8, 2)
    parts = nn.ModuleList([trunk, main, cue])
    optimiser = torch.optim.SGD(parts.parameters(), lr=0.5)
    x = torch.randn(64, 6)
    y, look = (x[:, 3:4] > 0).double(), (x[:, 0] > 0).long()
    for _ in range(100):
        hidden = trunk(x).tanh()
        loss = F.binary_cross_entropy_with_logits(main(hidden), y) + F.cross_entropy(
            cue(hidden), look
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    before = [None if p.grad is None else p.grad.clone() for p in parts.parameters()]
    looks = squared_input_gradients(lambda rows: cue(trunk(rows).tanh()), x)
    mains = squared_input_gradients(lambda rows: main(trunk(rows).tanh()), x)
    assert area_share(looks, AREA) > 0.5 > area_share(mains, AREA)
    for old, own in zip(before, parts.parameters(), strict=True):
        exactly(own.grad, old)


@pytest.mark.parametrize("pattern", [0.5, 0.7, 0.85, 0.98])
def test_the_gradient_left_by_drawing_images(pattern: float):
    rows, cue = 400_000, 0.9
    u = torch.rand(3, rows, generator=generator(0, "drawn"))
    y = torch.where(u[0] < 0.5, -1.0, 1.0)
    s = torch.where(u[1] < pattern, y, -y)
    c = torch.where(u[2] < cue, y, -y)
    weights = torch.zeros(2, requires_grad=True)
    start = torch.tensor([torch.logit(torch.tensor(pattern)), 0.0])
    sizes = []
    for at in (weights, start.requires_grad_()):
        loss = F.softplus(-y * (at[0] * s + at[1] * c)).mean()
        sizes.append(torch.autograd.grad(loss, at)[0])
    assert abs(sizes[1][0]) < 5e-3  # the pattern's own weight has come to rest
    assert abs(sizes[1][1] / sizes[0][1] - gradient_left(pattern)) < 0.01


def test_limits_of_the_gradient_left():
    assert [gradient_left(q) for q in (0.0, 0.5, 1.0)] == [0.0, 1.0, 0.0]


def dictionary(x: torch.Tensor) -> Any:
    return {"label": x}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: squared_input_gradients(lambda x: x, torch.ones(2, 6).long()), "embeddings"),
        (lambda: squared_input_gradients(lambda x: x.sum(), torch.ones(2, 6)), "a row each"),
        (lambda: squared_input_gradients(dictionary, torch.ones(2, 6)), "a row each"),
        (lambda: area_share(torch.ones(2, 6), AREA[:5]), r"of the shape \(6,\)"),
        (lambda: area_share(torch.ones(2, 6), AREA.long()), "by torch.bool"),
        (lambda: area_share(torch.ones(2, 6), AREA & ~AREA), "no input"),
        (lambda: gradient_left(1.2), "0 to 1, not 1.2"),
    ],
)
def test_mistakes_are_told(call, message: str):
    with pytest.raises(UsageError, match=message):
        call()
