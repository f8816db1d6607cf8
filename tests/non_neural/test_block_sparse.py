import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from sklearn.linear_model import Lasso, MultiTaskLasso

from mtlbook.errors import UsageError
from mtlbook.non_neural.block_sparse import (
    BlockSparseRegression,
    RowsInL2,
    RowsInMaximum,
    RowsInSum,
)

NORMS = {1: RowsInSum, 2: RowsInL2, math.inf: RowsInMaximum}


def world(rows=60, features=25, tasks=4):
    source = np.random.default_rng(0)
    inputs = source.normal(loc=1.0, size=(rows, features))
    weights = source.normal(size=(features, tasks)) * (np.arange(features) < 5)[:, None]
    return inputs, inputs @ weights + source.normal(size=(rows, tasks)) + np.arange(tasks)


def separate_world():
    """Four tasks with 15, 25, 35 and 45 rows of their own, in mixed order."""
    source = np.random.default_rng(1)
    tasks = source.permutation(np.repeat(["a", "b", "c", "d"], [15, 25, 35, 45]))
    inputs, outputs = world(rows=120)
    return inputs, outputs[np.arange(120), np.unique(tasks, return_inverse=True)[1]], tasks


def correlations(model, inputs, y, tasks):
    """For each task Xᵀ(y − Xw − c) / n, from the data themselves."""
    residual = y - model.predict(inputs, tasks)
    rows = [tasks == task for task in model.tasks_]
    return np.stack([inputs[own].T @ residual[own] / own.sum() for own in rows], axis=1), [
        residual[own].mean() for own in rows
    ]


# The estimator ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", [(60, 25), (30, 50)], ids=["tall", "wide"])
def test_a_shared_design_with_q_2_is_scikit_learns_multi_task_lasso(alpha, fit_intercept, shape):
    inputs, outputs = world(*shape)
    settings = {"alpha": alpha, "fit_intercept": fit_intercept}
    ours = BlockSparseRegression(**settings, tol=1e-13).fit(inputs, outputs)
    theirs = MultiTaskLasso(**settings, tol=1e-13, max_iter=100_000).fit(inputs, outputs)
    assert np.allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-7)
    assert np.allclose(ours.intercept_, theirs.intercept_, rtol=0, atol=1e-6)
    assert np.array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert np.allclose(ours.predict(inputs), theirs.predict(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("q", NORMS)
def test_one_task_is_scikit_learns_lasso(q):
    inputs, outputs = world()
    ours = BlockSparseRegression(0.1, q=q, tol=1e-13).fit(inputs, outputs[:, 0])
    theirs = Lasso(0.1, tol=1e-13).fit(inputs, outputs[:, 0])
    assert ours.coef_.shape == (25,)
    assert isinstance(ours.intercept_, float)
    assert np.allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-7)


@pytest.mark.parametrize("q", NORMS)
def test_equal_designs_given_task_by_task_are_a_shared_one(q):
    inputs, outputs = world()
    shared = BlockSparseRegression(0.1, q=q, tol=1e-13).fit(inputs, outputs)
    separate = BlockSparseRegression(0.1, q=q, tol=1e-13).fit(
        np.tile(inputs, (4, 1)), outputs.T.ravel(), tasks=np.repeat(np.arange(4), 60)
    )
    assert np.allclose(shared.coef_, separate.coef_, rtol=0, atol=1e-7)
    assert np.allclose(shared.intercept_, separate.intercept_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("q", NORMS)
def test_the_conditions_of_karush_kuhn_and_tucker_hold_with_separate_designs(q):
    """X_tᵀ r_t / n_t is α times a subgradient of the row's norm; residuals have mean 0."""
    alpha = 0.3
    inputs, y, tasks = separate_world()
    model = BlockSparseRegression(alpha, q=q, tol=1e-15).fit(inputs, y, tasks)
    rows, mean_residuals = correlations(model, inputs, y, tasks)
    assert np.allclose(mean_residuals, 0, atol=1e-12)
    dual = {1: np.inf, 2: 2, math.inf: 1}[q]
    weights = model.coef_.T
    active = weights.any(axis=1)
    assert 5 <= active.sum() < 25
    assert (np.linalg.norm(rows[~active], dual, axis=1) <= alpha + 1e-8).all()
    if q == 2:
        lengths = np.linalg.norm(weights[active], axis=1, keepdims=True)
        assert np.allclose(rows[active], alpha * weights[active] / lengths, rtol=0, atol=1e-7)
    elif q == 1:
        kept = weights != 0
        assert np.allclose(rows[kept], alpha * np.sign(weights[kept]), rtol=0, atol=1e-7)
    else:
        assert np.allclose(np.linalg.norm(rows[active], 1, axis=1), alpha, rtol=0, atol=1e-7)
        products = (rows[active] * weights[active]).sum(axis=1)
        assert np.allclose(products, alpha * np.abs(weights[active]).max(axis=1), atol=1e-7)


def test_q_infinity_gives_weights_of_exactly_equal_magnitude():
    inputs, outputs = world()
    model = BlockSparseRegression(0.5, q=math.inf, tol=1e-12).fit(inputs, outputs)
    magnitudes = np.abs(model.coef_[:, model.coef_.any(axis=0)])
    assert ((magnitudes == magnitudes.max(axis=0)).sum(axis=0) >= 2).any()


@pytest.mark.parametrize("q", NORMS)
def test_the_smallest_strength_that_leaves_no_weights_is_the_dual_norm(q):
    inputs, y, tasks = separate_world()
    huge = BlockSparseRegression(1e9, q=q).fit(inputs, y, tasks)
    assert not huge.coef_.any()
    assert np.allclose(huge.intercept_, [y[tasks == task].mean() for task in "abcd"])
    rows, _ = correlations(huge, inputs, y, tasks)
    largest = np.linalg.norm(rows, {1: np.inf, 2: 2, math.inf: 1}[q], axis=1).max()
    assert not BlockSparseRegression(1.001 * largest, q=q).fit(inputs, y, tasks).coef_.any()
    assert BlockSparseRegression(0.999 * largest, q=q, tol=1e-12).fit(inputs, y, tasks).coef_.any()


def test_q_1_is_scikit_learns_lasso_for_each_task():
    inputs, y, tasks = separate_world()
    ours = BlockSparseRegression(0.2, q=1, tol=1e-13).fit(inputs, y, tasks)
    for task, weights, intercept in zip(ours.tasks_, ours.coef_, ours.intercept_, strict=True):
        theirs = Lasso(0.2, tol=1e-13, max_iter=100_000).fit(
            inputs[tasks == task], y[tasks == task]
        )
        assert np.allclose(weights, theirs.coef_, rtol=0, atol=1e-7)
        assert np.isclose(intercept, theirs.intercept_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("q", [0, 3.0, "2", None])
def test_another_q_is_refused(q):
    model = BlockSparseRegression().set_params(q=q)
    with pytest.raises(UsageError, match=r"must be 1, 2 or math\.inf\. Got"):
        model.fit(*world())


# The penalties ------------------------------------------------------------------------------------

rows = arrays(np.float64, (3, 4), elements=st.floats(-3, 3, width=32))


@pytest.mark.parametrize("norm", NORMS.values())
def test_no_general_minimiser_beats_the_proximal_map(norm):
    weights = np.random.default_rng(3).normal(size=(1, 4))
    for step in (0.1, 0.5, 2.0, 10.0):

        def objective(new, step=step):
            new = new.reshape(1, 4)
            return ((new - weights) ** 2).sum() / 2 + step * norm(0.7).value(new)

        ours = objective(norm(0.7).proximal(weights, step))
        theirs = min(
            minimize(objective, start, method="Powell", options={"ftol": 1e-12}).fun
            for start in (weights.ravel(), np.zeros(4))
        )
        assert ours <= theirs + 1e-12
        assert math.isclose(ours, theirs, rel_tol=1e-3)


@pytest.mark.parametrize("norm", NORMS.values())
@given(weights=rows, other=rows, step=st.floats(0.01, 5))
def test_what_the_proximal_map_takes_away_is_a_subgradient(norm, weights, other, step):
    """(W − V) / step ∈ ∂Ω(V): the condition for a minimum, which is sufficient as well."""
    penalty = norm(0.7)
    new = penalty.proximal(weights, step)
    subgradient = (weights - new) / step
    rise = penalty.value(other) - penalty.value(new)
    assert rise >= np.vdot(subgradient, other - new) - 1e-9


@pytest.mark.parametrize("norm", NORMS.values())
@given(weights=rows, other=rows)
def test_the_dual_norm_bounds_every_product(norm, weights, other):
    penalty = norm(0.7)
    assert np.vdot(weights, other) <= penalty.dual_norm(weights) * penalty.value(other) + 1e-9


@pytest.mark.parametrize("norm", NORMS.values())
def test_a_row_within_the_dual_ball_becomes_exactly_zero(norm):
    inside = np.array([[0.1, -0.2, 0.05, 0.3]])
    assert norm(0.7).dual_norm(inside) < 1
    assert not norm(0.7).proximal(inside, 1.0).any()
