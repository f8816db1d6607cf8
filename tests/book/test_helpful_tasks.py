"""All pairs of tasks in a few fits: the same numbers as pair by pair."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.auxiliary_task import check_auxiliaries
from mtlbook.auxiliary.task_features import label_entropy
from mtlbook.book.experiments import helpful_tasks as experiment
from mtlbook.book.experiments.gated_tasks import AUTO, GATED, contestants, harmful
from mtlbook.book.page import Page

SEEDS = [7000, 7001]


@pytest.fixture(scope="module")
def small():
    return replace(experiment.factorial(30, 60), steps=20, width=4)


@pytest.fixture(scope="module")
def evidence(small):
    return experiment.gathered(small, SEEDS)


def test_a_pair_trained_among_others_is_the_pair_trained_by_itself(small):
    """With all rows at each step: the order of minibatches depends on a pair's number."""
    every = replace(small, batch=1000)
    names = ["task_7", "task_5"]  # with few and with many labels
    own = replace(every, names=names, labels={name: small.labels[name] for name in names})
    among, alone = (experiment.train_pairs(one, SEEDS[:1]) for one in (every, own))
    place = [list(small.names).index(name) for name in names]
    assert np.allclose(among.single[:, place], alone.single, atol=1e-9)
    joint = among.joint[0][np.ix_(place, place)]
    assert np.allclose(joint, alone.joint[0], atol=1e-9, equal_nan=True)
    assert np.isnan(alone.gains[0].diagonal()).all()


def test_one_seed_does_not_depend_on_the_others(small, evidence):
    alone = experiment.train_pairs(small, SEEDS[1:])
    assert np.allclose(alone.single[0], evidence.pairs.single[1], atol=1e-9)


def test_features_gains_and_judgements_have_a_row_each(evidence):
    features, gains = evidence.features(0), evidence.gains(0)
    assert features.shape == (56, 22)
    assert list(features.index) == list(gains.index)
    assert gains["task_2", "task_5"] == evidence.pairs.gains[0, 1, 4]
    entropy = label_entropy(evidence.labels[0]["task_2"])
    assert features.loc[("task_2", "task_5"), "main entropy"] == entropy
    table = experiment.measured(evidence, SEEDS)
    areas = table[table["metric"] == "area"]
    assert set(areas["left out"]) == {"new auxiliary", "new main"}
    assert len(areas) == 2 * 2 * 8
    assert all(0 <= area <= 1 for area in areas["value"].tolist())
    found = experiment.values(table, experiment.ALL, "new main", "error")
    assert found.shape == (2,)
    always = experiment.values(table, "always a gain", "new main", "error")
    assert always[0] == (gains <= 0).mean()


def test_permuting_tasks_moves_whole_tasks(evidence):
    features = evidence.features(0)
    moved = experiment.permuted(features, 0)
    assert list(moved.index) == list(features.index)
    assert not np.allclose(moved, features)
    for side in ("main", "auxiliary"):
        assert set(moved.groupby(side)[f"{side} log labels"].nunique()) == {1}
    assert np.allclose(np.sort(moved["cosine"]), np.sort(features["cosine"]))


def test_agreements_are_of_auxiliaries_and_pairs_only(evidence):
    table = experiment.measured(evidence, SEEDS)
    names = set(table[table["metric"] == "agreement"]["of"])
    assert {"cosine", "entropy", "cosine, tasks permuted"} <= names
    assert not any(name.startswith("main") for name in names)
    assert (abs(experiment.values(table, "cosine", metric="agreement")) <= 1).all()


def test_shuffled_labels_leave_the_main_task_and_the_shares():
    setting = experiment.by_entropy(30, 60)
    before = setting.data(7000)
    after = experiment.with_shuffled_labels(setting, "main").data(7000)
    assert torch.equal(before.targets["main"], after.targets["main"])
    for name in setting.names[1:]:
        assert not torch.equal(before.targets[name], after.targets[name])
        assert torch.equal(before.targets[name].bincount(), after.targets[name].bincount())


def test_properties_of_digits_are_what_they_say():
    data = experiment.digits("digit", "parity", "loop", "above_four", "eight", "merged").data(0)
    digit = data.targets["digit"]
    check_auxiliaries(data, "parity")
    assert torch.equal(data.targets["parity"], digit % 2)
    assert torch.equal(data.targets["eight"], (digit == 8).long())
    assert torch.equal(data.targets["above_four"], (digit >= 5).long())
    assert data.targets["merged"].unique().tolist() == [0, 1, 2]
    assert bool((data.targets["merged"][digit < 8] == 0).all())


def test_a_gate_and_learnt_weights_have_as_many_trials_as_the_rest():
    page = Page("7.9", {"seeds": 2, "first_seed": 7000, "device": "cpu"})
    couple = harmful(30, 60)
    couple = replace(couple, setting=replace(couple.setting, steps=20, width=4))
    found = contestants(page, couple)
    assert {len(own.fits) for own in found.values()} == {4}
    assert all(np.isfinite(own.score("main", "loss")).all() for own in found.values())
    assert found[GATED].score("main").shape == found[AUTO].score("main").shape == (2,)
