"""Section 8.5: all groups in one program, predictors, partitions."""

from functools import cache

import numpy as np
import pytest
import torch

from mtlbook.book.data.worlds.task_clusters import task_clusters
from mtlbook.book.experiments import adam, mlp
from mtlbook.book.experiments.grouping import (
    AllGroups,
    gains,
    groups_of,
    linear_cka,
    partition_losses,
    predicted,
    rank_correlations,
)
from mtlbook.book.studies import airline_prices
from mtlbook.data import Holdout
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.training.fit import fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.settings import Settings

SPLIT = Holdout(40, 20, 40)
SEEDS = [7000, 7001, 7002]


@pytest.fixture(scope="module")
def small():
    data = cache(lambda seed: task_clusters(seed, rows=100, tasks=3).data)
    return AllGroups(seeds=SEEDS, device="cpu", data=data, split=SPLIT, width=4, steps=20)


def test_a_task_alone_by_weights_is_single_task_training_to_the_bit(small):
    settings = Settings(
        tasks=["task_1"],
        split=SPLIT,
        steps=20,
        sampler=Mixed(32),
        stopping="each",
        validate_every=2,
        optimiser=adam(0.02),
        evaluate_on=["validation", "test"],
    )

    def build(data, seed):
        return mlp(data, seed, width=4)

    alone = fit(build, small.data, seeds=SEEDS, settings=settings)
    np.testing.assert_array_equal(small.losses()[(0,)][:, 0], alone.score("task_1", "loss"))


def test_there_are_all_groups():
    assert len(groups_of(6)) == 63
    assert groups_of(2) == [(0,), (1,), (0, 1)]


def test_gains_and_predictions_by_hand():
    losses = {(0,): np.array([[2.0]]), (1,): np.array([[4.0]]), (0, 1): np.array([[1.0, 5.0]])}
    np.testing.assert_allclose(gains(losses)[(0, 1)], [[50, -25]])
    affinity = np.array([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])
    np.testing.assert_allclose(predicted(affinity, [(0, 1, 2)])[0], [4, 3.5, 3])


def test_a_perfect_predictor_ranks_perfectly_and_finds_the_oracle():
    tasks, rng = 4, np.random.default_rng(0)
    affinity = rng.normal(size=(tasks, tasks))
    losses = {}
    for group in groups_of(tasks):
        help_ = predicted(affinity, [group])[0] if len(group) > 1 else np.zeros(1)
        losses[group] = np.tile(10 - help_, (3, 1))
    every = np.tile(affinity, (3, 1, 1))
    found = rank_correlations({"true": every, "reversed": -every}, gains(losses))
    np.testing.assert_allclose(found["true"], 1)
    np.testing.assert_allclose(found["reversed"], -1)
    for most in (1, 2, 4):
        parts = partition_losses({"true": every}, losses, most=most)
        np.testing.assert_allclose(parts["true"], parts["oracle"])
        assert (parts["oracle"] <= parts["together"] + 1e-12).all()


def test_likeness_does_not_see_rotations_and_scales():
    x = standard_normal(generator(0, "x"), 30, 4)
    turned = torch.linalg.qr(standard_normal(generator(0, "q"), 4, 4))[0]
    assert linear_cka(x, 3 * x @ turned + 1) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, standard_normal(generator(0, "other"), 30, 4)) < 0.5


def test_predictors_have_a_matrix_a_seed(small):
    found = small.predictors()
    assert set(found) == {"affinity", "cosine", "label correlation", "likeness", "chance"}
    for own in found.values():
        assert own.shape == (3, 3, 3)
    np.testing.assert_allclose(found["likeness"][:, range(3), range(3)], 1)
    assert np.abs(found["cosine"]).max() <= 1 + 1e-12


def test_the_study_has_its_rows(small):
    table = airline_prices.measured(small)
    assert table.groupby("metric")["method"].nunique().to_dict() == {
        "partition loss": 7,
        "rank correlation": 5,
    }
    assert len(table) == 3 * 12
    assert small.small(1).shape == (3, 3)


def test_the_world_has_clusters_and_refuses_what_does_not_fit():
    many, few = (task_clusters(1, rows=rows, tasks=4).data for rows in (50, 20))
    torch.testing.assert_close(many.targets["task_4"][:20], few.targets["task_4"])
    one = task_clusters(1, rows=5, tasks=4, clusters=1)
    assert torch.equal(one.features["task_1"], one.features["task_2"])
    with pytest.raises(UsageError, match="need 16 orthogonal directions"):
        task_clusters(0, rows=5, tasks=4, clusters=4)
    with pytest.raises(UsageError, match="2 tasks for 3 clusters"):
        task_clusters(0, rows=5, tasks=2, clusters=3)
