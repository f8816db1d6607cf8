"""The world of independent noise against closed forms: averages, least squares, power laws."""

import numpy as np
import pytest
import torch

from mtlbook.book.experiments.curves import effective_sample_size
from mtlbook.errors import UsageError
from mtlbook.mechanisms.data_augmentation import (
    expected_gain,
    measured,
    noise_carried,
    noise_variance,
    noisy_copies,
)


def correlations(noise):
    return torch.corrcoef(noise.T)


@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_noise_has_its_variance_and_the_correlation_of_the_dial(correlation):
    world = noisy_copies(
        0, tasks=3, train=20_000, validation=0, test=5, noise=0.7, correlation=correlation
    )
    noise = world.noise[:20_000]
    expected = torch.full((3, 3), correlation).double().fill_diagonal_(1.0)
    torch.testing.assert_close(correlations(noise), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(noise.std(0), torch.full((3,), 0.7).double(), atol=0.02, rtol=0)


def test_one_function_times_the_coefficients_and_test_rows_without_noise():
    world = noisy_copies(
        3, tasks=3, train=50, validation=20, test=30, coefficients=[1.0, -2.0, 0.5]
    )
    first, second, third = world.signals.T
    torch.testing.assert_close(second, -2 * first)
    torch.testing.assert_close(third, first / 2)
    assert (world.noise[70:] == 0).all()
    assert (world.noise[:70] != 0).all()
    torch.testing.assert_close(world.targets[70:], world.signals[70:])


def test_a_further_task_leaves_the_earlier_ones_as_they_were():
    few, many = (
        noisy_copies(1, tasks=k, train=10, validation=5, test=5, correlation=0.3) for k in (2, 5)
    )
    torch.testing.assert_close(few.targets, many.targets[:, :2], atol=0, rtol=0)


def test_noise_correlates_in_the_training_rows_alone():
    world = noisy_copies(0, tasks=2, train=9_000, validation=9_000, test=10, correlation=1.0)
    train, validation, test = world.noise.split([9_000, 9_000, 10])
    torch.testing.assert_close(train[:, 0], train[:, 1])
    assert abs(float(correlations(validation)[0, 1])) < 0.03
    torch.testing.assert_close(validation.std(0), torch.ones(2).double(), atol=0.03, rtol=0)
    assert (test == 0).all()


def test_less_in_common_moves_the_functions_apart():
    def mean_correlation(**dials):
        worlds = [
            noisy_copies(seed, tasks=2, train=2_000, validation=0, test=0, **dials)
            for seed in range(20)
        ]
        return np.mean([float(correlations(world.signals)[0, 1]) for world in worlds])

    assert mean_correlation() > 1 - 1e-9
    assert 0.4 < mean_correlation(shared_features=0.8, shared_heads=0.8) < 0.95
    assert abs(mean_correlation(shared_features=0.0, shared_heads=0.0)) < 0.25


def test_tasks_with_the_same_features_and_heads_of_their_own():
    world = noisy_copies(0, tasks=3, train=500, validation=0, test=0, features=2, shared_heads=0.0)
    # Three functions of two features: the third is a linear combination of the others.
    assert int(torch.linalg.matrix_rank(world.signals)) == 2


def test_the_three_forms_of_the_data_hold_the_same_targets():
    world = noisy_copies(2, tasks=3, train=10, validation=5, test=5)
    separate = world.data
    assert [task.name for task in separate.tasks] == ["task_1", "task_2", "task_3"]
    together = world.together(2).targets["together"]
    torch.testing.assert_close(together[:, [1]], separate.targets["task_2"])
    torch.testing.assert_close(world.alone(2).targets["alone"], separate.targets["task_3"])
    with pytest.raises(UsageError, match="There are 3 tasks"):
        world.together(4)


@pytest.mark.parametrize(
    ("coefficients", "correlation"),
    [([1.0, 1.0, 1.0], 0.0), ([1.0, 2.0, -0.5], 0.0), ([1.0, 2.0, 0.5], 0.6), ([1.0] * 4, 1.0)],
)
def test_variance_of_the_common_estimate(coefficients, correlation):
    rows = torch.zeros(200_000, 1, dtype=torch.float64)
    c = torch.tensor(coefficients, dtype=torch.float64)
    world = measured(0, rows, rows * c, test=0, noise=0.8, correlation=correlation)
    estimate = world.targets @ c / c.square().sum()
    expected = noise_variance(coefficients, noise=0.8, correlation=correlation)
    assert float(estimate.var()) == pytest.approx(expected, rel=0.02)


def test_least_squares_on_all_tasks_is_worth_k_times_the_examples():
    # In closed form: the expected error of ordinary least squares at its own inputs is σ² p / n,
    # and joint least squares sees a noise of variance σ² / K.
    p, n, tasks = 6, 40, 8
    joint = noise_variance([1.0] * tasks, noise=0.9) * p / n
    sizes = [20, 50, 150, 500]
    alone = np.array([noise_variance([1.0], noise=0.9) * p / size for size in sizes])
    assert effective_sample_size(joint, sizes, alone) == pytest.approx(tasks * n)
    shared = noise_variance([1.0] * tasks, noise=0.9, correlation=1.0) * p / n
    assert effective_sample_size(shared, sizes, alone) == pytest.approx(n)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_gain_by_counting_is_that_of_least_squares(correlation):
    # Tasks y_k = X w + Z v_k + ε_k with orthogonal columns: the error at the training inputs is
    # the trace of H C Hᵀ, with H the projection on the joint design and C the noise's covariance.
    n, shared, own, tasks = 30, 6, 2, 3
    columns = np.linalg.qr(np.random.default_rng(0).standard_normal((n, shared + own)))[0]
    x, z = columns[:, :shared], columns[:, shared:]
    design = np.hstack([np.tile(x, (tasks, 1)), np.kron(np.eye(tasks), z)])
    projection = design @ np.linalg.pinv(design)
    between = np.full((tasks, tasks), correlation) + (1 - correlation) * np.eye(tasks)
    joint = np.trace(projection @ np.kron(between, np.eye(n)) @ projection.T) / tasks
    gain = expected_gain(tasks, shared=shared, own=own, correlation=correlation)
    assert gain == pytest.approx((shared + own) / joint)


def test_gain_is_the_design_effect_without_heads_and_bounded_with_them():
    design_effect = 1 / noise_variance([1.0] * 5, correlation=0.3)
    gain = expected_gain(5, shared=7, own=0, correlation=0.3)
    assert gain == pytest.approx(design_effect)
    assert expected_gain(10**6, shared=9, own=3) == pytest.approx(4.0, rel=1e-4)
    with pytest.raises(UsageError, match="not a model"):
        expected_gain(2, shared=0, own=0)


def test_noise_carried_by_least_squares_is_its_degrees_of_freedom_per_example():
    p, n, tasks = 5, 60, 4
    own, others, joint = [], [], []
    for seed in range(100):
        source = torch.Generator().manual_seed(seed)
        x = torch.randn(n, p, generator=source, dtype=torch.float64)
        signals = (x @ torch.ones(p, 1, dtype=torch.float64)).expand(-1, tasks)
        world = measured(seed, x, signals, test=0, noise=1.0)
        alone = x @ torch.linalg.lstsq(x, world.targets).solution
        mean = world.targets.mean(1, keepdim=True)
        averaged = (x @ torch.linalg.lstsq(x, mean).solution).expand(-1, tasks)
        carried = noise_carried(alone, world.signals, world.noise)
        own.append(carried.diagonal().mean())
        others.append((carried.sum() - carried.diagonal().sum()) / (tasks * (tasks - 1)))
        joint.append(noise_carried(averaged, world.signals, world.noise))
    assert float(torch.stack(own).mean()) == pytest.approx(p / n, rel=0.1)
    assert float(torch.stack(others).mean()) == pytest.approx(0, abs=0.01)
    expected = torch.full((tasks, tasks), p / (tasks * n), dtype=torch.float64)
    torch.testing.assert_close(torch.stack(joint).mean(0), expected, atol=0.01, rtol=0)


def test_a_table_of_rote_learning_carries_all_of_its_noise():
    world = noisy_copies(0, tasks=2, train=30, validation=0, test=0)
    carried = noise_carried(world.targets, world.signals, world.noise)
    torch.testing.assert_close(carried.diagonal(), torch.ones(2).double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correlation": 1.1}, "between 0 and 1"),
        ({"noise": -1.0}, "at least 0"),
        ({"coefficients": [1.0]}, "one a task"),
        ({"shared_heads": 2.0}, "between 0 and 1"),
    ],
)
def test_impossible_worlds_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        noisy_copies(0, tasks=2, train=5, validation=5, test=5, **options)


def test_no_task_measures_nothing():
    with pytest.raises(UsageError, match="No task measures F"):
        noise_variance([0.0, 0.0])
    with pytest.raises(UsageError, match="0 cannot be for validation and 4 for the test"):
        measured(0, torch.zeros(3, 1).double(), torch.zeros(3, 1).double(), test=4, noise=1.0)
