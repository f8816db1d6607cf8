"""Section 7.6's contestants at a small size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.predicting_inputs import Tied
from mtlbook.book.data.worlds.caruana_table_6 import LABEL
from mtlbook.book.experiments import predicting_inputs as experiment
from mtlbook.book.experiments.auxiliary_tasks import equal_trials, zero_weight_gap
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import adam, train
from mtlbook.book.page import Page
from mtlbook.training.sampling import Mixed


@pytest.fixture(scope="module")
def page():
    return Page("7.6", {"seeds": 2, "first_seed": 7000, "device": "cpu"})


@pytest.fixture(scope="module")
def small():
    world = experiment.with_noise(1.0, rows=20)
    return replace(world, steps=15)


def test_all_roles_have_equal_trials_and_their_own_inputs(page, small):
    arms = {role: experiment.contestant(page, small, role) for role in experiment.ROLES}
    assert equal_trials(*arms.values()) == 4
    widths = {
        role: next(trained_network(arm, 7000).parameters()).shape[1] for role, arm in arms.items()
    }
    assert widths == {"input": 28, "output": 20, "nothing": 20}
    missing = experiment.missing_at_test(page, small, arms["input"])
    assert missing.shape == (2,)
    assert (missing != arms["input"].score(LABEL, "loss")).all()


def test_a_weight_of_zero_is_single_task_training_to_the_bit(page, small):
    gap = zero_weight_gap(
        page,
        experiment.network,
        small.of("output"),
        LABEL,
        list(experiment.NOISY),
        optimiser=adam(0.03, 0.03),
        **small.training,
    )
    assert gap == 0.0


def test_features_are_in_units_of_the_training_rows(small):
    data = small.data(7000)
    train_rows = small.split.draw(data, 7000).train
    features = data.inputs[train_rows][:, list(experiment.NOISY.values())]
    torch.testing.assert_close(features.mean(0), torch.zeros(8).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(8).double())
    assert set(data.inputs[:, :20].unique().tolist()) == {0.0, 1.0}


def test_the_shuffled_control_moves_whole_rows_of_features_and_nothing_else(small):
    own, mixed = small.data(7000), small.mixed_up().data(7000)
    columns = list(small.columns.values())
    others = [n for n in range(own.inputs.shape[1]) if n not in columns]
    assert torch.equal(own.inputs[:, others], mixed.inputs[:, others])
    assert torch.equal(own.targets[small.main], mixed.targets[small.main])
    before, after = own.inputs[:, columns], mixed.inputs[:, columns]
    assert not torch.equal(before, after)
    assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))


def test_table_6_has_caruanas_sizes():
    world = experiment.table_6()
    assert (world.split.train, world.split.validation, world.split.test) == (50, 1000, 1000)
    asked = world.of("output")(7000)
    assert [task.name for task in asked.tasks] == ["f1", "f2"]
    network = experiment.network(asked, 0, width=16).double()
    shares = network(asked.inputs)
    assert all(bool(((own > 0) & (own < 1)).all()) for own in shares.values())


def test_all_roles_have_the_same_rows_of_a_table():
    world = experiment.diabetes()
    splits = {role: world.split.draw(world.of(role)(7000), 7000) for role in experiment.ROLES}
    for part in ("train", "validation", "test"):
        rows = [getattr(own, part) for own in splits.values()]
        assert torch.equal(rows[0], rows[1])
        assert torch.equal(rows[0], rows[2])
    targets = [world.of(role)(7000).targets["progression"] for role in experiment.ROLES]
    assert torch.equal(targets[0], targets[1])
    assert not torch.equal(targets[0], world.data(7001).targets["progression"])


@pytest.fixture(scope="module")
def shifted():
    return experiment.Shifted(
        noise=1.0, shift=1.0, labelled=20, unlabelled=30, validation=25, test=40
    )


def test_rows_of_a_shift_stand_where_they_are_said_to(shifted):
    few, many = shifted.few.data(7000), shifted.many.data(7000)
    assert (few.rows, many.rows) == (20 + 25 + 80, 20 + 60 + 25 + 80)
    assert bool(few.labelled[LABEL].all())
    assert torch.nonzero(~many.labelled[LABEL])[:, 0].tolist() == list(range(20, 80))
    # The same labelled, validation and test rows in both.
    kept = torch.cat([torch.arange(20), torch.arange(80, many.rows)])
    assert torch.equal(many.inputs[kept], few.inputs)
    assert torch.equal(many.targets[LABEL][kept], few.targets[LABEL])
    # The first feature's noise is twice as large elsewhere, and A larger more often.
    assert many.inputs[50:80, 0].mean() > many.inputs[20:50, 0].mean()


def test_in_n_out_at_a_tiny_size(page, shifted):
    given = experiment.contestant(page, replace(shifted.few, steps=6), "input")
    found = experiment.in_n_out(page, shifted, given, shares=(0.5, 0.8))
    assert set(found) == {"output, pre-trained", "In-N-Out"}
    found["all rows"] = experiment.outputs_of_all_rows(page, shifted)
    assert equal_trials(*found.values()) == 4
    assert isinstance(trained_network(found["In-N-Out"], 7000), Tied)
    for arm in found.values():
        losses = experiment.losses_by_part(page, shifted, arm)
        both = (losses["in"] + losses["out"]) / 2
        np.testing.assert_allclose(both, arm.score(LABEL, "loss"), rtol=1e-9)


def test_the_control_of_in_n_out_has_its_stages_alone(page, shifted, monkeypatch):
    whole = experiment.Shifted.few.fget
    assert whole is not None
    short = property(lambda own: replace(whole(own), steps=4))
    monkeypatch.setattr(experiment.Shifted, "few", short)
    found = experiment.out_of_distribution(page, shifted, stages_alone=True)
    assert set(found) == {"features as inputs", "output, pre-trained", "In-N-Out"}
    assert all(own["out"].shape == (2,) for own in found.values())


def test_costs_are_those_of_the_widths(small):
    found = experiment.costs(small, 7000)
    assert {role: own["parameters"] for role, own in found.items()} == {
        "input": 16 * 28 + 16 + 17,
        "output": 16 * 20 + 16 + 9 * 17,
        "nothing": 16 * 20 + 16 + 17,
    }


def test_tied_networks_train_together_as_one_by_one(page):
    """The same head under two names, for all seeds at once and for each by itself."""
    data = experiment.with_noise(1.0, rows=20).of("nothing")

    def build(own, seed):
        return Tied(experiment.network(own, seed, width=4), LABEL, "again")

    settings = {
        "split": experiment.with_noise(1.0, rows=20).split,
        "sampler": Mixed(None),
        "steps": 5,
        "stopping": None,
        "optimiser": adam(0.03),
    }
    together, apart = (train(page, build, data, vectorise=own, **settings) for own in (True, False))
    np.testing.assert_allclose(
        together.predictions[LABEL], apart.predictions[LABEL], rtol=0, atol=1e-12
    )
