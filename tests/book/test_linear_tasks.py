"""The linear models of section 5.1: exact errors, paths, and choices by equal information."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mtlbook.book.experiments import linear_tasks as linear
from mtlbook.data.sparse_tasks import low_rank_tasks, sparse_tasks
from mtlbook.non_neural.trace_norm import TraceNormRegression

SMALL = partial(sparse_tasks, features=12, support=3)


def small(seeds=(0, 1), rows=20):
    return linear.constructed(SMALL, seeds, rows)


def test_a_constructed_experiment_has_as_many_validation_rows_and_knows_the_truth():
    experiment = small()
    assert experiment.train.inputs.shape == (2, 2, 20, 12)
    assert experiment.validation.targets.shape == (2, 2, 20)
    made = SMALL(1, rows=40)
    assert np.array_equal(experiment.validation.inputs[1], made.inputs_by_task[:, 20:].numpy())
    truth = np.stack([SMALL(seed, rows=40).coefficients.numpy() for seed in (0, 1)])
    assert experiment.error(truth).tolist() == [0, 0]
    assert experiment.error(0 * truth).tolist() == [1, 1]


def test_the_excess_risk_is_that_of_new_rows():
    truth = np.random.default_rng(0).normal(size=(1, 5, 2))
    weights = truth + 0.3
    inputs = np.random.default_rng(1).normal(size=(200_000, 5))
    expected = ((inputs @ (weights - truth)[0]) ** 2).mean(axis=0).sum() / (truth**2).sum()
    assert linear.excess_risk(truth, weights)[0] == pytest.approx(expected, rel=0.02)


def test_every_method_has_as_many_fits_and_rows_that_agree_cost_the_same():
    penalties = linear.penalties(tasks=4)
    assert {name: len(own) for name, own in penalties.items()} == {
        linear.LASSO: 16,
        linear.BLOCK: 16,
        linear.MAXIMUM: 16,
        linear.DIRTY: 32,
    }
    row = np.full((1, 4), -0.5)
    costs = [penalties[name][3].value(row) for name in (linear.LASSO, linear.BLOCK, linear.MAXIMUM)]
    assert costs == pytest.approx([costs[0]] * 3)


def test_the_ridge_path_is_scikit_learns():
    experiment = small()
    path = linear.ridge_path(experiment.train)
    strengths = np.geomspace(10.0, 0.01, linear.FITS)
    inputs, targets = experiment.train.inputs[1, 0], experiment.train.targets[1, 0]
    for place in (0, 15):
        peer = Ridge(20 * strengths[place], fit_intercept=False).fit(inputs, targets)
        assert np.allclose(path[place, 1, :, 0], peer.coef_)


def test_the_trace_norm_path_is_the_estimators():
    experiment = linear.constructed(partial(low_rank_tasks, tasks=3, features=6), [0], 10)
    path = linear.trace_norm_path(experiment.train)
    model = TraceNormRegression(alpha=1.0, fit_intercept=False, tol=1e-9)
    inputs, targets = experiment.train.inputs[0], experiment.train.targets[0]
    model.fit(inputs.reshape(-1, 6), targets.ravel(), tasks=np.repeat([0, 1, 2], 10))
    assert path.shape == (16, 1, 6, 3)
    assert np.allclose(path[0, 0], model.coef_.T, atol=1e-2)


def test_one_strength_is_chosen_for_all_tasks():
    experiment = small()
    best = linear.chosen(linear.ridge_path(experiment.train), experiment)
    assert (best.positions == best.positions[:, :1]).all()


def test_the_searches_choose_by_validation_alone():
    experiment = small(seeds=(0, 1, 2))
    errors = linear.sparse_errors(experiment)
    assert list(errors) == [*linear.penalties(2), linear.EITHER, linear.BETTER]
    for found in errors.values():
        assert found.shape == (3,)
    candidates = np.stack([errors[linear.LASSO], errors[linear.MAXIMUM]])
    assert (candidates == errors[linear.BETTER]).any(axis=0).all()
    # Where all features are common the block norm is the better one, and is found.
    assert errors[linear.EITHER].mean() < errors[linear.LASSO].mean()


def test_low_rank_weights_of_ridge_trace_norm_and_their_search():
    experiment = linear.constructed(partial(low_rank_tasks, tasks=4, features=8), [0, 1], 8)
    weights = linear.low_rank_weights(experiment)
    errors = {name: experiment.error(own).mean() for name, own in weights.items()}
    assert list(errors) == [linear.RIDGE, linear.TRACE, linear.RIDGE_OR_TRACE]
    assert errors[linear.TRACE] < errors[linear.RIDGE]


def test_age_groups_are_centred_on_their_training_rows():
    experiment = linear.age_groups([0, 1], train=30)
    assert experiment.train.inputs.shape == (2, 4, 30, 10)
    assert np.allclose(experiment.train.targets.mean(axis=2), 0)
    nothing = np.zeros((2, 10, 4))
    assert (experiment.error(nothing) >= 1).all()  # no better than the mean of the training rows


def test_the_unexplained_variance_of_a_perfect_and_of_the_mean_prediction():
    source = np.random.default_rng(0)
    weights = source.normal(size=(1, 3, 2))
    inputs = source.normal(size=(1, 2, 50, 3))
    targets = (inputs @ weights.swapaxes(1, 2)[..., None])[..., 0]
    test = linear.Rows(inputs, targets - targets.mean(axis=2, keepdims=True))
    assert linear.unexplained_variance(test, 0 * weights)[0] == pytest.approx(1)
    assert linear.unexplained_variance(linear.Rows(inputs, targets), weights)[0] < 1e-12


def test_digits_are_ten_tasks_on_the_same_images():
    experiment = linear.ten_digits([0], train=50)
    inputs = experiment.train.inputs
    assert inputs.shape == (1, 10, 50, 64)
    assert np.array_equal(inputs[0, 0], inputs[0, 9])
