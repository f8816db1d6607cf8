import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import Lasso

from mtlbook.errors import UsageError
from mtlbook.non_neural.trace_norm import (
    SquaredTraceNorm,
    TraceNorm,
    TraceNormRegression,
    proportional_cut,
)


def world(rows=40, features=8, tasks=5, rank=2):
    source = np.random.default_rng(0)
    inputs = source.normal(size=(rows, features))
    weights = source.normal(size=(features, rank)) @ source.normal(size=(rank, tasks))
    return inputs, inputs @ weights + 0.3 * source.normal(size=(rows, tasks))


def separate_world():
    inputs, outputs = world(rows=150)
    tasks = np.random.default_rng(1).integers(5, size=150)
    return inputs, outputs[np.arange(150), tasks], tasks


def trace_norm(matrix):
    return np.linalg.norm(matrix, "nuc")


def test_an_orthogonal_design_lowers_the_singular_values_of_the_least_squares_weights():
    inputs, outputs = world()
    inputs = np.sqrt(40) * np.linalg.qr(inputs)[0]  # XᵀX / n = I
    left, values, right = np.linalg.svd(inputs.T @ outputs / 40, full_matrices=False)
    expected = left * np.maximum(values - 0.8, 0) @ right
    model = TraceNormRegression(0.8, fit_intercept=False, tol=1e-14).fit(inputs, outputs)
    assert np.allclose(model.coef_.T, expected, rtol=0, atol=1e-7)
    assert np.linalg.matrix_rank(model.coef_) == (values > 0.8).sum() == 2


def test_an_orthogonal_design_with_the_squared_norm_solves_the_fixed_point():
    """σ_i = max(s_i − 2 γ Σ_k σ_k, 0), the sum found by bisection."""
    inputs, outputs = world()
    inputs = np.sqrt(40) * np.linalg.qr(inputs)[0]
    values = np.linalg.svdvals(inputs.T @ outputs / 40)
    low, high = 0.0, values.sum()
    for _ in range(100):
        middle = (low + high) / 2
        if np.maximum(values - 2 * 0.3 * middle, 0).sum() > middle:
            low = middle
        else:
            high = middle
    model = TraceNormRegression(0.3, squared=True, fit_intercept=False, tol=1e-14)
    found = np.linalg.svdvals(model.fit(inputs, outputs).coef_)
    assert np.allclose(found, np.maximum(values - 2 * 0.3 * low, 0), rtol=0, atol=1e-7)


def test_the_squared_form_is_the_plain_one_at_another_strength():
    inputs, y, tasks = separate_world()
    squared = TraceNormRegression(0.05, squared=True, tol=1e-14).fit(inputs, y, tasks)
    strength = 2 * 0.05 * float(trace_norm(squared.coef_))
    plain = TraceNormRegression(strength, tol=1e-14).fit(inputs, y, tasks)
    assert np.allclose(squared.coef_, plain.coef_, rtol=0, atol=1e-6)
    assert np.allclose(squared.intercept_, plain.intercept_, rtol=0, atol=1e-6)


def test_the_squared_norm_is_the_least_over_metrics_of_argyrious_form():
    """Σ_t w_tᵀ D⁻¹ w_t over D ≻ 0 of trace 1 is least, ‖W‖_*², at D = (WWᵀ)^½ / tr (WWᵀ)^½."""
    weights = np.random.default_rng(2).normal(size=(3, 5))
    left, values, _ = np.linalg.svd(weights, full_matrices=False)
    root = left * values @ left.T

    def form(metric):
        return np.trace(weights.T @ np.linalg.solve(metric / np.trace(metric), weights))

    assert np.isclose(form(root), SquaredTraceNorm(1.0).value(weights), rtol=1e-12)
    assert form(root + 0.1 * np.eye(3)) > SquaredTraceNorm(1.0).value(weights)


def test_the_conditions_for_a_minimum_hold_with_separate_designs():
    """C = X_tᵀ r_t / n_t has singular values of at most α, and ⟨C, W⟩ = α ‖W‖_*."""
    inputs, y, tasks = separate_world()
    model = TraceNormRegression(0.5, tol=1e-15).fit(inputs, y, tasks)
    residual = y - model.predict(inputs, tasks)
    own = [tasks == task for task in range(5)]
    c = np.stack([inputs[rows].T @ residual[rows] / rows.sum() for rows in own])
    assert np.linalg.norm(c, 2) <= 0.5 + 1e-7
    assert np.isclose(np.vdot(c, model.coef_), 0.5 * trace_norm(model.coef_), rtol=1e-7)
    assert np.linalg.matrix_rank(model.coef_) < 5


def test_one_feature_and_one_task_is_scikit_learns_lasso():
    inputs, outputs = world()
    ours = TraceNormRegression(0.2, tol=1e-14).fit(inputs[:, :1], outputs[:, 0])
    theirs = Lasso(0.2).fit(inputs[:, :1], outputs[:, 0])
    assert np.allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan"), "1", None])
def test_a_strength_must_be_positive_and_finite(alpha):
    model = TraceNormRegression().set_params(alpha=alpha)
    with pytest.raises(UsageError, match=r"The 'alpha' parameter .* in the range \(0\.0, inf\)"):
        model.fit(*world())


# The penalties ------------------------------------------------------------------------------------

matrices = arrays(np.float64, (3, 4), elements=st.floats(-3, 3, width=32))


@pytest.mark.parametrize("penalty", [TraceNorm(0.7), SquaredTraceNorm(0.2)])
@given(weights=matrices, other=matrices, step=st.floats(0.01, 5))
def test_what_the_proximal_map_takes_away_is_a_subgradient(penalty, weights, other, step):
    new = penalty.proximal(weights, step)
    subgradient = (weights - new) / step
    rise = penalty.value(other) - penalty.value(new)
    assert rise >= np.vdot(subgradient, other - new) - 1e-9


@given(values=arrays(np.float64, 5, elements=st.floats(0, 3)), factor=st.floats(0.01, 10))
def test_the_proportional_cut_is_what_its_equation_says(values, factor):
    values = -np.sort(-values)
    cut = proportional_cut(values, factor)
    assert np.isclose(cut, factor * np.maximum(values - cut, 0).sum(), rtol=1e-9, atol=1e-300)
