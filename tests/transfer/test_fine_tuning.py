from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.data import Holdout, constructed
from mtlbook.errors import UsageError
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import Fit, fit
from mtlbook.transfer.fine_tuning import fine_tuning, linear_probing

SEEDS = (3, 1)
SPLIT = Holdout(train=60, validation=10, test=10)
INPUTS, WIDTH = 5, 3
# The error of a quadratic shrinks by about the root of the momentum a step.
HEAVY_BALL = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def data(seed: int):
    return constructed.related_tasks(
        seed, tasks=2, rows=80, inputs=INPUTS, features=WIDTH, linear=True, same_inputs=True
    ).data


def network(task: str, activation: type[nn.Module] = nn.Identity) -> HardSharing:
    return HardSharing(
        [nn.Linear(INPUTS, WIDTH), activation()], [Task.regression(task)], width=WIDTH
    )


def train(task: str, **options) -> Fit:
    options = {"steps": 20, "batch_size": None, "stopping": None} | options
    build = partial(network, task)
    return fit(build, data, seeds=SEEDS, tasks=[task], split=SPLIT, device="cpu", **options)


@pytest.fixture(scope="module")
def source() -> Fit:
    return train("task_1")


def trunk(model: nn.Module) -> dict[str, torch.Tensor]:
    return model.get_submodule("trunk").state_dict()


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("start", [fine_tuning, linear_probing])
def test_before_any_step_the_trunk_is_the_source_models_of_the_same_seed(source, start):
    target = train("task_2", initialise=start(source.model), steps=1, learning_rate=0.0)
    fresh = train("task_2", steps=1, learning_rate=0.0)
    for seed in SEEDS:
        assert_equal(trunk(target.model(seed)), trunk(source.model(seed)))
        heads = [one.model(seed).get_submodule("heads").state_dict() for one in (target, fresh)]
        assert_equal(*heads)
    first, second = (trunk(target.model(seed))["0.weight"] for seed in SEEDS)
    assert not torch.equal(first, second)


def test_fine_tuning_moves_the_trunk_and_leaves_the_source_as_it_was(source):
    before = {seed: {k: v.clone() for k, v in trunk(source.model(seed)).items()} for seed in SEEDS}
    target = train("task_2", initialise=fine_tuning(source.model))
    for seed in SEEDS:
        assert_equal(trunk(source.model(seed)), before[seed])
        assert not torch.allclose(trunk(target.model(seed))["0.weight"], before[seed]["0.weight"])


def test_linear_probing_trains_the_head_alone(source):
    target = train("task_2", initialise=linear_probing(source.model))
    assert target.cost.parameters == WIDTH + 1
    for seed in SEEDS:
        assert_equal(trunk(target.model(seed)), trunk(source.model(seed)))


def test_a_linear_probe_becomes_least_squares_on_the_sources_features(source):
    target = train(
        "task_2",
        initialise=linear_probing(source.model),
        steps=300,
        optimiser=HEAVY_BALL,
    )
    for number, seed in enumerate(SEEDS):
        own = data(seed)
        rows = SPLIT.draw(own, seed).train
        features = source.model(seed).get_submodule("trunk")(own.inputs).detach().numpy()
        design = np.column_stack([features, np.ones(len(features))])
        known = own.targets["task_2"].numpy()
        solution, *_ = np.linalg.lstsq(design[rows], known[rows], rcond=None)
        expected = design[target.test[number]] @ solution
        np.testing.assert_allclose(target.predictions["task_2"][number], expected, atol=1e-6)


def test_a_source_that_knows_the_features_needs_few_labels(source):
    # From the true trunk the head is linear regression in three features: exact without noise,
    # where the five inputs themselves have more unknowns than there are labels.
    world = constructed.related_tasks(
        0, tasks=2, rows=80, inputs=INPUTS, features=WIDTH, linear=True, noise=0.0
    )
    knowing = network("task_1")
    with torch.no_grad():
        weight, bias = knowing.trunk.parameters()
        weight.copy_(world.features["task_1"].mT)
        bias.zero_()
    probed = fit(
        partial(network, "task_2"),
        world.data,
        seeds=[0],
        tasks=["task_2"],
        split=Holdout(train=INPUTS, validation=10, test=50),
        steps=300,
        batch_size=None,
        stopping=None,
        optimiser=HEAVY_BALL,
        initialise=linear_probing(lambda seed: knowing.double()),
        device="cpu",
    )
    assert probed.score("task_2")[0] < 1e-6


def test_other_parts_can_be_named(source):
    target = network("task_1").double()
    fine_tuning(source.model, parts=["trunk", "heads"])(target, SEEDS[0])
    assert_equal(target.state_dict(), source.model(SEEDS[0]).state_dict())


@pytest.mark.parametrize(
    ("part", "model"),
    [
        ("encoder", network("task_2")),
        ("trunk", HardSharing([nn.Linear(INPUTS, 7)], [Task.regression("task_2")], width=7)),
    ],
    ids=["missing", "of another width"],
)
def test_a_part_that_does_not_fit_is_named(source, part, model):
    with pytest.raises(
        UsageError, match=f"The part '{part}' of the trained model cannot be copied"
    ):
        fine_tuning(source.model, parts=[part])(model, SEEDS[0])
