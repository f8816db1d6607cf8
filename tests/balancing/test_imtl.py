import numpy as np
import pytest
import torch

from mtlbook.balancing.imtl import IMTL, equal_projection_weights


def projections_on_units(jacobian: np.ndarray) -> np.ndarray:
    combined = equal_projection_weights(jacobian @ jacobian.T) @ jacobian
    return jacobian @ combined / np.linalg.norm(jacobian, axis=1)


def test_projections_are_equal_and_never_ascend():
    """Random heterogeneous gradients, among which the rule unguarded ascends on every task."""
    source, ascending, bounded = np.random.default_rng(0), 0, 0
    for _ in range(300):
        tasks = int(source.integers(2, 12))
        rows = source.standard_normal((tasks, 14)) + 2 * source.standard_normal(14)
        jacobian = rows * 10.0 ** source.uniform(-1, 1, (tasks, 1))
        gramian = jacobian @ jacobian.T
        norms = np.sqrt(gramian.diagonal())
        unguarded = np.linalg.solve(gramian, norms)
        ascending += unguarded.sum() < 0
        found = projections_on_units(jacobian)
        np.testing.assert_allclose(found, found[0], rtol=1e-7)
        assert 0 < found[0] <= norms.max() * (1 + 1e-9)
        exact = unguarded / unguarded.sum()
        if unguarded.sum() > 0 and 1 / unguarded.sum() <= norms.max():
            np.testing.assert_allclose(equal_projection_weights(gramian), exact, rtol=1e-6)
        else:
            bounded += 1
    assert ascending > 5
    assert bounded >= ascending


def test_two_tasks_need_no_guard():
    """The equation of the paper, a = g_1 Uᵀ(D Uᵀ)⁻¹, for the second weight."""
    for seed in range(30):
        rows = np.random.default_rng(seed).standard_normal((2, 4)) * [[1.0], [30.0]]
        first, second = rows
        u = first / np.linalg.norm(first) - second / np.linalg.norm(second)
        share = (first @ u) / ((first - second) @ u)
        expected = [1 - share, share]
        np.testing.assert_allclose(equal_projection_weights(rows @ rows.T), expected, rtol=1e-9)


def test_orthogonal_gradients_weigh_by_the_inverse_norms():
    found = equal_projection_weights(np.diag([4.0, 0.25, 9.0]))
    expected = np.array([1 / 2, 2, 1 / 3])
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)


def test_the_direction_does_not_depend_on_a_loss_s_unit():
    jacobian = np.random.default_rng(1).standard_normal((3, 5))
    scaled = jacobian * [[100.0], [1.0], [0.01]]
    before = equal_projection_weights(jacobian @ jacobian.T) @ jacobian
    after = equal_projection_weights(scaled @ scaled.T) @ scaled
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert cosine == pytest.approx(1, abs=1e-9)


def test_dependent_and_zero_gradients_are_served():
    same = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_allclose(equal_projection_weights(same @ same.T), 1 / 3)
    with_zero = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(equal_projection_weights(with_zero @ with_zero.T), [0.5, 0, 0.5])
    opposite = np.array([[1.0, 0.0], [-2.0, 0.0]])
    weights = equal_projection_weights(opposite @ opposite.T)
    np.testing.assert_allclose(weights @ opposite, 0, atol=1e-12)
    assert not equal_projection_weights(np.zeros((2, 2))).any()


def test_the_best_scale_makes_each_loss_one():
    """e^s L - s is least at s = -log L, where the scaled loss is 1."""
    combiner = IMTL(["a", "b"], dtype=torch.float64)
    losses = torch.tensor([20.0, 0.03], dtype=torch.float64)
    with torch.no_grad():
        combiner.log_scales.copy_(-losses.log())
    least = combiner.transform(losses)
    least.sum().backward()
    assert combiner.log_scales.grad is not None
    np.testing.assert_allclose(combiner.log_scales.grad, 0, atol=1e-12)
    np.testing.assert_allclose((least + combiner.log_scales).detach(), 1)
    with torch.no_grad():
        for shift in (-0.1, 0.1):
            combiner.log_scales.add_(shift)
            assert (combiner.transform(losses) > least).all()
            combiner.log_scales.sub_(shift)
