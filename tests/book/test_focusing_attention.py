"""Section 7.4's contestants: equal trials, λ = 0, what each of them sees, what is measured."""

from functools import partial

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.book.data.worlds.faint_cue import regions
from mtlbook.book.experiments import adam, mlp, trained_network
from mtlbook.book.experiments.auxiliary_tasks import equal_trials, zero_weight_gap
from mtlbook.book.experiments.focusing_attention import (
    aided,
    common,
    contestants,
    costs,
    cue_shares,
    decoupled_errors,
    from_digits,
    from_world,
    measured,
    measured_all,
    saliency,
    unaided,
)
from mtlbook.book.page import Page
from mtlbook.data import MultiTaskData

SEEDS = (7000, 7001)
WORLD = from_world(labels=40, width=4)


@pytest.fixture
def page():
    return Page("7.4", {"seeds": 2, "first_seed": SEEDS[0], "device": "cpu"})


@pytest.mark.parametrize("setting", [WORLD, from_digits(labels=40, width=4)])
def test_all_contestants_have_as_many_trials_and_test_rows(page, setting):
    alone, joint = unaided(page, setting, steps=4), aided(page, setting, steps=4)
    assert equal_trials(alone, joint) == 6
    for own in (alone, joint):
        assert next(iter(own.fits.values())).test.shape == (2, 1000)
    found = measured(joint, setting)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(
        ("error", "decoupled error", "cue share"), (2,)
    )


def test_what_the_page_compares_and_what_it_costs(page, monkeypatch):
    monkeypatch.setattr("mtlbook.book.experiments.focusing_attention.STEPS", 2)
    arms = contestants(page, WORLD)
    found = measured_all(arms, WORLD)
    assert list(found) == ["single-task", "beside the cue", "other cue", "shuffled", "oracle"]
    np.testing.assert_allclose(found["oracle"]["cue share"], 1.0)
    table = costs(arms, WORLD)
    trunk, main, cue = 4 * 97, 5, 8 * 5
    assert table["parameters"].tolist() == [
        trunk + main,
        *[trunk + main + cue] * 3,
        4 * 17 + main,
    ]
    # Forward and backward: the trunk's input needs no gradient.
    assert table.loc["single-task"].iloc[1] == 4 * 4 * 96 + 6 * 4


def test_a_weight_of_zero_is_single_task_training_to_the_bit(page):
    settings = common(WORLD, steps=6) | {"optimiser": adam(0.05)}
    assert zero_weight_gap(page, mlp, WORLD.data, "label", ["cue"], **settings) == 0


def test_behind_a_full_linear_trunk_the_cue_changes_nothing():
    data = WORLD.data(SEEDS[0])
    tasks = [task for task in data.tasks if task.name in ("label", "cue")]
    both = MultiTaskData.multi_label(tasks, data.inputs, data.targets)
    assert identity_gap(both, "label") < 1e-9 < identity_gap(both, "label", width=1)


def test_shuffled_labels_keep_what_they_say_about_the_main_label_and_lose_the_cue():
    data, other = WORLD.data(SEEDS[0]), WORLD.tied_shuffle(SEEDS[0])
    label = data.targets["label"].flatten()
    assert torch.equal(other.targets["label"], data.targets["label"])
    for value in (0, 1):
        own, new = (one.targets["cue"][label == value].sort().values for one in (data, other))
        assert torch.equal(own, new)
    assert (data.targets["cue"] == other.targets["cue"]).double().mean() < 0.4


def test_the_oracle_sees_the_cue_alone(page):
    crop, whole = WORLD.cropped(), WORLD.data(SEEDS[0])
    own = crop.data(SEEDS[0])
    assert torch.equal(own.inputs, whole.inputs[:, regions()["cue"]])
    assert torch.equal(own.targets["label"], whole.targets["label"])
    trained = unaided(page, crop, steps=4)
    # The pattern is out of its sight: where that is decoupled, it errs as often.
    np.testing.assert_allclose(decoupled_errors(trained, crop), trained.score("label"), atol=1e-12)
    np.testing.assert_allclose(cue_shares(trained, crop), 1.0)


def test_errors_and_shares_are_those_of_the_chosen_networks(page):
    trained = aided(page, WORLD, steps=20)
    maps, shares = saliency(trained, WORLD), cue_shares(trained, WORLD)
    np.testing.assert_allclose(maps.sum(1), 1.0)
    for place, seed in enumerate(SEEDS):
        network = trained_network(trained, seed)
        fit = trained.fits[str(trained.choices.loc[seed, "label"])]
        rows = torch.as_tensor(fit.test[place])
        data, broken = WORLD.images(seed, False), WORLD.images(seed, True)
        label = data.targets["label"][rows]

        def wrong(inputs: torch.Tensor, network=network, label=label) -> float:
            return float(((network(inputs)["label"] > 0) != label.bool()).double().mean())

        assert wrong(data.inputs[rows]) == pytest.approx(trained.score("label")[place])
        assert wrong(broken.inputs[rows]) == pytest.approx(decoupled_errors(trained, WORLD)[place])
        x = data.inputs[rows].requires_grad_()
        squared = torch.autograd.grad(network(x)["label"].sum(), x)[0].square().sum(0)
        own = squared[regions()["cue"]].sum() / squared.sum()
        assert shares[place] == pytest.approx(float(own))


def test_settings_of_the_training_can_be_changed_for_some_seeds(page):
    chosen = partial(unaided, page, WORLD, steps=4)
    few = chosen(seeds=page.seeds[:1])
    assert list(few.choices.index) == [SEEDS[0]]
    assert few.score("label")[0] == chosen().score("label")[0]


def test_a_network_whose_units_are_all_off_looks_nowhere(page, monkeypatch):
    trained = unaided(page, WORLD, steps=4)
    network = trained_network(trained, SEEDS[0])
    network.get_parameter("trunk.0.0.bias").fill_(-1e6)
    module = "mtlbook.book.experiments.focusing_attention.trained_network"
    monkeypatch.setattr(module, lambda *_: network)
    np.testing.assert_array_equal(cue_shares(trained, WORLD), 0.0)
