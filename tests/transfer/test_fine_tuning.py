"""Fine-tuning and linear probing, which are called as `fit(start=...)` calls them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.transfer.fine_tuning import fine_tuning, linear_probing

SEEDS = (3, 1)
INPUTS, WIDTH, ROWS = 5, 3, 60

pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


X = normal(ROWS, INPUTS, purpose="inputs")


def network(task: str, width: int = WIDTH) -> HardSharing:
    return HardSharing(lambda: [nn.Linear(INPUTS, width)], {task: nn.Linear(width, 1)})


@pytest.fixture(scope="module")
def sources() -> dict[int, HardSharing]:
    return {seed: network("task_1").double() for seed in SEEDS}


def train(model: nn.Module, y: Tensor, steps: int) -> None:
    """Gradient descent with momentum, whose error on a quadratic shrinks by its root a step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        (model(X)["task_2"] - y).square().mean().backward()
        optimiser.step()


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in module.state_dict().items()}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("start", [fine_tuning, linear_probing])
def test_the_trunk_becomes_the_source_models_of_the_same_seed(sources, start):
    begin = start(sources.get)
    for seed in SEEDS:
        target = network("task_2")
        fresh = copied(target.heads)
        begin(target, seed)
        assert_equal(copied(target.trunk), copied(sources[seed].trunk))
        assert_equal(copied(target.heads), fresh)
    first, second = (sources[seed].get_parameter("trunk.0.weight") for seed in SEEDS)
    assert not torch.equal(first, second)


def test_fine_tuning_moves_the_trunk_and_leaves_the_source_as_it_was(sources):
    source, target = sources[SEEDS[0]], network("task_2")
    before = copied(source)
    fine_tuning(sources.get)(target, SEEDS[0])
    train(target, normal(ROWS, 1, purpose="targets"), steps=5)
    assert_equal(copied(source), before)
    assert not torch.allclose(target.get_parameter("trunk.0.weight"), before["trunk.0.weight"])


def test_a_linear_probe_becomes_least_squares_on_the_sources_features(sources):
    source, target = sources[SEEDS[0]], network("task_2")
    linear_probing(sources.get)(target, SEEDS[0])
    trained = [p for p in target.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == WIDTH + 1
    y = normal(ROWS, 1, purpose="targets")
    train(target, y, steps=400)
    assert_equal(copied(target.trunk), copied(source.trunk))
    features = source.trunk(X).detach().numpy()
    design = np.column_stack([features, np.ones(ROWS)])
    solution, *_ = np.linalg.lstsq(design, y.numpy(), rcond=None)
    found = target(X)["task_2"].detach().numpy()
    np.testing.assert_allclose(found, design @ solution, atol=1e-6)


def test_other_parts_can_be_named(sources):
    target = network("task_1")
    fine_tuning(sources.get, parts=["trunk", "heads"])(target, SEEDS[0])
    assert_equal(copied(target), copied(sources[SEEDS[0]]))


@pytest.mark.parametrize(("part", "width"), [("encoder", WIDTH), ("trunk", 7)])
def test_a_part_that_does_not_fit_is_named(sources, part, width):
    with pytest.raises(
        UsageError, match=f"The part '{part}' of the trained model cannot be copied"
    ):
        fine_tuning(sources.get, parts=[part])(network("task_2", width), SEEDS[0])
