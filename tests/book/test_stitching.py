"""The contestants of section 6.3: equal starts, steps and trials."""

from functools import cache

import pytest
import torch

from mtlbook.book.data.partly_shared import partly_shared_tasks
from mtlbook.book.experiments import dense, stitching, trained_network
from mtlbook.book.experiments.stitching import Columns, single_task, splits, stitched, trained_on
from mtlbook.book.experiments.without_page import WithoutPage
from mtlbook.data import Holdout

PAGE = WithoutPage("6.3", range(2), "cpu")


@cache
def data(seed):
    return partly_shared_tasks(seed, tasks=["few", "many", "source"], rows=90, inputs=5).data


COLUMNS = Columns(
    data=data,
    split=Holdout(train=50, validation=20, test=20, labels={"few": 10}),
    tasks=("few", "many"),
    source="source",
    stages=dense(5, 4, 4),
    width=4,
    steps=4,
    more_steps=2,
    batch=8,
)


@pytest.fixture(scope="module")
def start():
    return single_task(PAGE, COLUMNS)


@pytest.fixture(scope="module")
def arms(start):
    own = {
        "single-task": trained_on(PAGE, COLUMNS, start),
        "cross-stitch": stitched(PAGE, COLUMNS, start),
    }
    return own | splits(PAGE, COLUMNS, start)


def test_everyone_has_six_trials_and_as_many_steps(start, arms):
    first = len(start.networks.fits)
    assert first + len(arms["single-task"].fits) == 6
    assert first + len(arms["cross-stitch"].fits) == 6
    assert len(arms["best split"].fits) == 6
    for name, arm in arms.items():
        expected = 2 if name in ("single-task", "cross-stitch") else 6
        assert {int(own) for fit in arm.fits.values() for own in fit.cost.steps} == {expected}


def test_the_last_split_is_hard_sharing(arms):
    assert set(arms) == {
        "single-task",
        "cross-stitch",
        "split after 1",
        "hard sharing",
        "best split",
    }
    size = {name: next(iter(arm.fits.values())).cost.parameters for name, arm in arms.items()}
    layers, heads = [5 * 4 + 4, 4 * 4 + 4], 2 * (4 + 1)
    assert size["single-task"] == 2 * sum(layers) + heads
    assert size["split after 1"] == layers[0] + 2 * layers[1] + heads
    assert size["hard sharing"] == sum(layers) + heads
    assert size["cross-stitch"] == size["single-task"] + 2 * 4 * 4


def two_tasks():
    whole = data(0)
    return whole.subset(torch.arange(len(whole.inputs)), tasks=whole.tasks[:2])


def stages_of(network, part):
    return network.get_submodule(part).state_dict().values()


def test_all_columns_start_from_the_pre_trained_layers(start):
    pretrained = trained_network(start.pretrained, 0, "source")
    source = list(stages_of(pretrained, "branches.source"))
    for shared in (0, 1, 2):
        model = stitching._split_network(two_tasks(), 0, COLUMNS, shared).double()
        stitching._from_source(start.pretrained, "source", model, 0)
        for task in COLUMNS.tasks:
            own = [*stages_of(model, "trunk"), *stages_of(model, f"branches.{task}")]
            assert all(torch.equal(one, other) for one, other in zip(own, source, strict=True))


@pytest.mark.parametrize("permuted", [False, True])
def test_units_at_the_identity_predict_what_the_networks_did(start, permuted):
    model = stitching._stitched_network(two_tasks(), 0, COLUMNS, 1.0).double()
    stitching._from_single_task(start.networks, "columns", model, 0)
    before = [own.clone() for own in model.parameters()]
    if permuted:
        stitching._permute(model, "many", 0)
        changed = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
        assert any(changed)
    inputs = data(0).inputs[:7]
    with torch.no_grad():
        predicted = model(inputs)
        for task in COLUMNS.tasks:
            own = trained_network(start.networks, 0, task)(inputs)[task]
            torch.testing.assert_close(predicted[task], own)
