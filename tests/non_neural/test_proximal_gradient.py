import numpy as np
import pytest

from mtlbook.non_neural.block_sparse import RowsInL2
from mtlbook.non_neural.proximal_gradient import (
    Iterate,
    SeparateDesigns,
    SharedDesign,
    duality_gap,
    minimise,
    minimise_over_working_sets,
)
from mtlbook.non_neural.trace_norm import SquaredTraceNorm, TraceNorm

SOURCE = np.random.default_rng(0)
INPUTS = SOURCE.normal(size=(30, 45)) / np.sqrt(30)
SEPARATE = SeparateDesigns(SOURCE.normal(size=(4, 30, 45)) / np.sqrt(30))
WEIGHTS = SOURCE.normal(size=(45, 4)) * (np.arange(45) < 5)[:, None]
DESIGNS = [pytest.param(SharedDesign(INPUTS), id="shared"), pytest.param(SEPARATE, id="separate")]
PENALTIES = [RowsInL2(0.1), TraceNorm(0.1), SquaredTraceNorm(0.1)]


def outputs_of(design):
    outputs = design.forward(WEIGHTS)
    return outputs + 0.1 * np.random.default_rng(1).normal(size=outputs.shape)


def gap_at(design, outputs, penalty, weights):
    return duality_gap(outputs, penalty, Iterate.at(design, outputs, weights))


def objective(design, outputs, penalty, weights):
    return np.sum((outputs - design.forward(weights)) ** 2) / 2 + penalty.value(weights)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_adjoint_is_the_transpose(design):
    """Against the matrix of the map, built column by column."""
    basis = np.eye(45 * 4).reshape(-1, 45, 4)
    matrix = np.stack([design.forward(weights).ravel() for weights in basis], axis=1)
    outputs = outputs_of(design)
    assert np.allclose(matrix.T @ outputs.ravel(), design.adjoint(outputs).ravel(), rtol=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
def test_a_restricted_design_is_that_of_the_other_weights_at_zero(design):
    some = np.array([0, 3, 44])
    full = np.zeros_like(WEIGHTS)
    full[some] = WEIGHTS[some]
    assert np.allclose(design.restricted(some).forward(WEIGHTS[some]), design.forward(full))


def test_separate_designs_of_equal_inputs_are_a_shared_one():
    separate = SeparateDesigns(np.stack([INPUTS] * 4))
    assert np.allclose(separate.forward(WEIGHTS), SharedDesign(INPUTS).forward(WEIGHTS).T)


@pytest.mark.parametrize(
    "design",
    [SharedDesign(INPUTS[:, :7]), SeparateDesigns(SEPARATE.inputs[:, :, :7])],
    ids=["shared", "separate"],
)
def test_a_compressed_design_has_the_same_losses_but_for_a_constant(design):
    outputs = outputs_of(DESIGNS[0].values[0] if isinstance(design, SharedDesign) else SEPARATE)
    compressed, fewer = design.compressed(outputs)
    assert compressed.inputs.shape[-2] == 7
    weights = np.random.default_rng(2).normal(size=(3, 7, 4))
    losses = [np.sum((outputs - design.forward(one)) ** 2) for one in weights]
    smaller = [np.sum((fewer - compressed.forward(one)) ** 2) for one in weights]
    assert np.ptp(np.array(losses) - smaller) < 1e-10
    assert losses[0] > smaller[0] + 0.1


@pytest.mark.parametrize("design", DESIGNS)
def test_a_design_with_more_features_than_rows_is_left_alone(design):
    outputs = outputs_of(design)
    compressed, same = design.compressed(outputs)
    assert compressed is design
    assert same is outputs


@pytest.mark.parametrize("design", DESIGNS)
def test_the_start_is_used(design):
    outputs, penalty = outputs_of(design), RowsInL2(0.1)
    settings = {"tolerance": 1e-13, "max_iterations": 20_000}
    for solver in (minimise, minimise_over_working_sets):
        cold = solver(design, outputs, penalty, start=np.zeros((45, 4)), **settings)
        warm = solver(design, outputs, penalty, start=cold.weights, **settings)
        assert warm.iterations == 1 < cold.iterations
        assert np.allclose(warm.weights, cold.weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
def test_the_gap_bounds_what_any_weights_lose(design, penalty):
    outputs = outputs_of(design)
    settings = {"start": np.zeros((45, 4)), "max_iterations": 5000}
    found = minimise(design, outputs, penalty, tolerance=1e-12, **settings)
    least = objective(design, outputs, penalty, found.weights)
    assert -1e-13 <= found.gap <= 1e-12
    for size in (0.001, 0.1, 10.0):
        other = found.weights + size * np.random.default_rng(2).normal(size=(45, 4))
        loss = objective(design, outputs, penalty, other) - least
        assert 0 < loss <= gap_at(design, outputs, penalty, other)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_gap_of_zero_weights_is_half_the_squares_of_what_scaling_takes_away(design):
    """The residual is Y itself, so that P − D = ½ ‖Y‖² − s‖Y‖² + ½ s²‖Y‖² = ½ (1 − s)² ‖Y‖²."""
    outputs = outputs_of(design)
    scale = 0.1 / np.linalg.norm(design.adjoint(outputs), axis=1).max()
    assert 0.01 < scale < 0.5
    gap = gap_at(design, outputs, RowsInL2(0.1), np.zeros((45, 4)))
    assert np.isclose(gap, (1 - scale) ** 2 * np.sum(outputs**2) / 2, rtol=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
def test_the_conjugate_is_the_one_of_the_definition(design, penalty):
    """Fenchel and Young: ⟨C, W⟩ ≤ Ω(W) + Ω*(C), with equality where C is a subgradient at W.

    P is least where 𝒳ᵀ(Y − 𝒳W) is one.
    """
    outputs = outputs_of(design)
    found = minimise(
        design,
        outputs,
        penalty,
        start=np.zeros((45, 4)),
        tolerance=1e-13,
        max_iterations=5000,
    )
    correlations = design.adjoint(outputs - design.forward(found.weights))
    correlations = penalty.dual_scale(correlations) * correlations
    conjugate = penalty.conjugate(correlations)
    at_minimum = penalty.value(found.weights) + conjugate
    assert np.isclose(np.vdot(correlations, found.weights), at_minimum, rtol=1e-6)
    for size in (0.1, 1.0, 10.0):
        other = size * np.random.default_rng(3).normal(size=(45, 4))
        assert np.vdot(correlations, other) < penalty.value(other) + conjugate


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("strength", [1.0, 0.1, 0.001])
def test_working_sets_lead_to_the_same_weights(design, strength):
    outputs, penalty = outputs_of(design), RowsInL2(strength)
    settings = {"start": np.zeros((45, 4)), "tolerance": 1e-13, "max_iterations": 20_000}
    full = minimise(design, outputs, penalty, **settings)
    found = minimise_over_working_sets(design, outputs, penalty, **settings)
    assert found.gap <= 1e-13
    assert np.isclose(found.gap, gap_at(design, outputs, penalty, found.weights), atol=1e-15)
    assert np.allclose(found.weights, full.weights, atol=1e-5)
    assert np.array_equal(found.weights.any(axis=1), full.weights.any(axis=1))


def test_too_few_iterations_leave_an_honest_gap():
    design = SharedDesign(INPUTS)
    outputs, penalty = outputs_of(design), RowsInL2(0.01)
    settings = {"start": np.zeros((45, 4)), "tolerance": 1e-12, "max_iterations": 7}
    for solver in (minimise, minimise_over_working_sets):
        found = solver(design, outputs, penalty, **settings)
        assert found.iterations == 7
        assert found.gap > 1e-6


def test_restarts_make_an_ill_conditioned_problem_converge():
    """Without them, 5,000 iterations do not suffice."""
    inputs = np.random.default_rng(4).normal(size=(60, 30)) * np.logspace(0, -1, 30)
    found = minimise(
        SharedDesign(inputs),
        np.random.default_rng(5).normal(size=(60, 4)),
        RowsInL2(0.01),
        start=np.zeros((30, 4)),
        tolerance=1e-12,
        max_iterations=1500,
    )
    assert found.gap <= 1e-12


def test_inputs_of_zeros_give_weights_of_zeros():
    design = SharedDesign(np.zeros((3, 2)))
    found = minimise(
        design,
        np.ones((3, 1)),
        RowsInL2(1.0),
        start=np.zeros((2, 1)),
        tolerance=0.0,
        max_iterations=5,
    )
    assert not found.weights.any()
    assert found.gap == 0
