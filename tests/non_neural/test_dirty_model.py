import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog, minimize
from sklearn.linear_model import Lasso

from mtlbook.errors import UsageError
from mtlbook.non_neural.block_sparse import BlockSparseRegression, RowsInMaximum
from mtlbook.non_neural.dirty_model import BlockPlusSparse, DirtyModel


def world():
    """Features 0 to 3 for all tasks, feature 4 + t for task t alone."""
    source = np.random.default_rng(0)
    inputs = source.normal(loc=1.0, size=(70, 20))
    weights = np.zeros((20, 4))
    weights[:4] = 1 + 0.1 * source.normal(size=(4, 4))
    weights[4 + np.arange(4), np.arange(4)] = 2
    return inputs, inputs @ weights + 0.5 * source.normal(size=(70, 4))


def separate_world():
    inputs, outputs = world()
    tasks = np.random.default_rng(1).permutation(np.arange(70) % 4)
    return inputs, outputs[np.arange(70), tasks], tasks


# The estimator ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha_sparse", [0.201, 1e6])
def test_a_dear_sparse_part_leaves_the_block_norm_alone(alpha_sparse):
    inputs, y, tasks = separate_world()
    dirty = DirtyModel(0.2, alpha_sparse, tol=1e-13).fit(inputs, y, tasks)
    block = BlockSparseRegression(0.2, q=math.inf, tol=1e-13).fit(inputs, y, tasks)
    assert not dirty.sparse_coef_.any()
    assert np.allclose(dirty.coef_, block.coef_, rtol=0, atol=1e-6)
    assert np.allclose(dirty.intercept_, block.intercept_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha_block", [0.4, 1e6])
def test_a_dear_block_part_leaves_a_lasso_for_each_task(alpha_block):
    inputs, y, tasks = separate_world()
    dirty = DirtyModel(alpha_block, 0.1, tol=1e-13).fit(inputs, y, tasks)
    assert not dirty.block_coef_.any()
    for task in range(4):
        own = tasks == task
        lasso = Lasso(0.1, tol=1e-13, max_iter=100_000).fit(inputs[own], y[own])
        assert np.allclose(dirty.coef_[task], lasso.coef_, rtol=0, atol=1e-6)
        assert np.isclose(dirty.intercept_[task], lasso.intercept_, rtol=0, atol=1e-6)


def test_between_the_limits_each_part_finds_its_features():
    model = DirtyModel(0.5, 0.3).fit(*world())
    assert (model.block_coef_[:, :4] > 0.3).all()
    assert not model.block_coef_[:, 4:].any()
    own = model.sparse_coef_[:, 4:8]
    assert (own.diagonal() > 1).all()
    assert np.allclose(model.coef_, model.block_coef_ + model.sparse_coef_, rtol=0, atol=1e-15)


def test_the_conditions_of_karush_kuhn_and_tucker_hold_for_both_parts():
    """C = X_tᵀ r_t / n_t is λ_b times a subgradient of ‖B‖_{1,∞} and λ_s times one of ‖S‖₁."""
    inputs, y, tasks = separate_world()
    model = DirtyModel(0.35, 0.2, tol=1e-15).fit(inputs, y, tasks)
    residual = y - model.predict(inputs, tasks)
    c = np.stack([inputs[tasks == t].T @ residual[tasks == t] / sum(tasks == t) for t in range(4)])
    block, sparse = model.block_coef_, model.sparse_coef_
    assert block.any()
    assert sparse.any()
    assert (np.abs(c) <= 0.2 + 1e-7).all()
    assert (np.abs(c).sum(axis=0) <= 0.35 + 1e-7).all()
    assert np.allclose(c[sparse != 0], 0.2 * np.sign(sparse[sparse != 0]), rtol=0, atol=1e-6)
    assert np.allclose((c * block).sum(axis=0), 0.35 * np.abs(block).max(axis=0), atol=1e-6)


def test_one_task_of_one_dimension_has_parts_of_one_dimension():
    inputs, outputs = world()
    model = DirtyModel(0.2, 0.1).fit(inputs, outputs[:, 0])
    assert model.block_coef_.shape == model.sparse_coef_.shape == model.coef_.shape == (20,)


@pytest.mark.parametrize("name", ["alpha_block", "alpha_sparse"])
def test_a_strength_must_be_positive(name):
    with pytest.raises(UsageError, match=f"The '{name}' parameter of DirtyModel must be a float"):
        DirtyModel().set_params(**{name: 0.0}).fit(*world())


# The penalty --------------------------------------------------------------------------------------

STRENGTHS = [(1.0, 0.7), (1.4, 0.7), (2.5, 0.7), (0.5, 0.7), (3.0, 0.7)]
rows = arrays(np.float64, (3, 4), elements=st.floats(-3, 3, width=32))


@pytest.mark.parametrize(("block", "sparse"), STRENGTHS)
def test_no_linear_programme_splits_a_row_more_cheaply(block, sparse):
    """Variables b, u ≥ |w − b| and m ≥ |b|: minimise λ_b m + λ_s Σ u."""
    penalty, eye, one, none = BlockPlusSparse(block, sparse), np.eye(4), np.ones((4, 1)), 0
    for weights in np.random.default_rng(0).normal(size=(5, 4)):
        found = linprog(
            np.concatenate([np.zeros(4), np.full(4, sparse), [block]]),
            A_ub=np.block(
                [
                    [eye, -eye, none * one],
                    [-eye, -eye, none * one],
                    [eye, none * eye, -one],
                    [-eye, none * eye, -one],
                ]
            ),
            b_ub=np.concatenate([weights, -weights, np.zeros(8)]),
            bounds=(None, None),
        )
        assert math.isclose(penalty.value(weights[None]), found.fun, rel_tol=1e-9)
        parts = penalty.split(weights[None])
        assert np.allclose(sum(parts), weights[None], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("block", "sparse"), STRENGTHS)
@given(weights=rows, other=rows, step=st.floats(0.01, 5))
def test_what_the_proximal_map_takes_away_is_a_subgradient(block, sparse, weights, other, step):
    penalty = BlockPlusSparse(block, sparse)
    new = penalty.proximal(weights, step)
    subgradient = (weights - new) / step
    rise = penalty.value(other) - penalty.value(new)
    assert rise >= np.vdot(subgradient, other - new) - 1e-9


@pytest.mark.parametrize(("block", "sparse"), STRENGTHS)
def test_no_general_minimiser_beats_the_proximal_map(block, sparse):
    penalty = BlockPlusSparse(block, sparse)
    weights = 2 * np.random.default_rng(3).normal(size=(1, 4))

    def objective(new):
        new = new.reshape(1, 4)
        return ((new - weights) ** 2).sum() / 2 + 0.8 * penalty.value(new)

    ours = objective(penalty.proximal(weights, 0.8))
    theirs = minimize(objective, weights.ravel(), method="Powell", options={"ftol": 1e-12}).fun
    assert ours <= theirs + 1e-12
    assert math.isclose(ours, theirs, rel_tol=1e-2)


@given(weights=rows, other=rows)
def test_the_dual_norm_bounds_every_product(weights, other):
    penalty = BlockPlusSparse(1.0, 0.7)
    assert np.vdot(weights, other) <= penalty.dual_norm(weights) * penalty.value(other) + 1e-9


@given(weights=rows, step=st.floats(0.01, 5))
def test_the_proximal_maps_limits_are_clipping_and_soft_thresholding(weights, step):
    clipped = RowsInMaximum(1.0).proximal(weights, step)
    assert np.allclose(BlockPlusSparse(1.0, 10.0).proximal(weights, step), clipped, atol=1e-12)
    thresholded = np.sign(weights) * np.maximum(np.abs(weights) - 0.7 * step, 0)
    assert np.allclose(BlockPlusSparse(2.8, 0.7).proximal(weights, step), thresholded, atol=1e-12)
