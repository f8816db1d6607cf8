import numpy as np
import pytest
import torch

from mtlbook.book.experiments.excess_error import head_error, noiseless_test
from mtlbook.data import Holdout, constructed

SPLIT = Holdout(train=20, validation=10, test=30)


@pytest.mark.parametrize("same_inputs", [False, True])
def test_only_test_targets_lose_their_noise(same_inputs: bool):
    world = constructed.related_tasks(3, tasks=3, rows=60, same_inputs=same_inputs)
    data = noiseless_test(world, SPLIT, seed=3)
    drawn = SPLIT.draw(world.data, 3)
    for task in data.tasks:
        labelled = data.labelled[task.name]
        truth = torch.zeros_like(data.targets[task.name])
        truth[labelled] = world.noiseless[task.name]
        test = drawn.test[labelled[drawn.test]]
        assert len(test) == 30
        torch.testing.assert_close(data.targets[task.name][test], truth[test])
        for rows in (drawn.train, drawn.validation):
            own = rows[labelled[rows]]
            noisy = world.data.targets[task.name]
            torch.testing.assert_close(data.targets[task.name][own], noisy[own])
            assert not torch.allclose(noisy[own], truth[own])


def test_a_split_stays_what_it_was():
    world = constructed.related_tasks(0, tasks=2, rows=60)
    before, after = SPLIT.draw(world.data, 0), SPLIT.draw(noiseless_test(world, SPLIT, 0), 0)
    assert torch.equal(before.train, after.train)
    assert torch.equal(before.test, after.test)


def test_heads_on_the_true_features_err_as_least_squares_does():
    """σ² p / (n − p − 1) for p coefficients of roughly normal features."""
    split = Holdout(train=50, validation=10, test=200)
    errors = [
        head_error(constructed.related_tasks(seed, tasks=2, rows=260, noise=0.5), split, seed, 2)
        for seed in range(40)
    ]
    assert np.mean(errors) == pytest.approx(0.25 * 5 / 44, rel=0.25)


def test_without_noise_the_floor_is_zero():
    world = constructed.related_tasks(1, tasks=2, rows=60, noise=0.0)
    assert head_error(world, SPLIT, 1, tasks=2) == pytest.approx(0, abs=1e-12)
