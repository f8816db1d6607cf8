import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mtlbook.balancing.upgrad import UPGrad, projections
from mtlbook.combiner import Evidence
from tests.balancing.gramians import every_gramian


def weigh(jacobian: np.ndarray) -> np.ndarray:
    names = [f"task_{n}" for n in range(len(jacobian))]
    losses = torch.ones(len(jacobian), dtype=torch.float64)
    known = torch.ones(len(jacobian), dtype=torch.bool)
    gramian = torch.from_numpy(jacobian @ jacobian.T)
    return UPGrad(names).weigh(Evidence(losses, known, gramian=gramian)).numpy()


@every_gramian
def test_the_optimality_conditions_hold(gramian):
    """v ≥ e_i, Gv ≥ 0, and (v - e_i)ᵀGv = 0, in the unit of g_i and of whom it meets."""
    norms = np.sqrt(gramian.diagonal())
    for i, v in enumerate(projections(gramian)):
        unit = norms[i] * norms
        added, products = v - np.eye(len(v))[i], gramian @ v
        assert (added >= 0).all()
        assert (products / unit).min() >= -1e-8
        assert np.abs(added * products).max() <= 1e-8 * norms[i] ** 2


def test_it_is_the_projection_onto_the_dual_cone():
    """The nearest point to g_i of {d: Jd ≥ 0}, found in the parameters' own space."""
    source = np.random.default_rng(3)
    for _ in range(5):
        jacobian = source.standard_normal((4, 6))
        rows = projections(jacobian @ jacobian.T) @ jacobian
        for gradient, projected in zip(jacobian, rows, strict=True):
            nearest = minimize(
                lambda d, g=gradient: ((d - g) ** 2).sum(),
                gradient,
                jac=lambda d, g=gradient: 2 * (d - g),
                method="SLSQP",
                constraints={"type": "ineq", "fun": lambda d, j=jacobian: j @ d},
                options={"ftol": 1e-14, "maxiter": 500},
            )
            np.testing.assert_allclose(projected, nearest.x, atol=1e-5)


def test_nothing_conflicts_with_the_mean():
    source = np.random.default_rng(4)
    for _ in range(20):
        jacobian = source.standard_normal((5, 7)) * 10.0 ** source.uniform(-3, 3, (5, 1))
        products = jacobian @ (weigh(jacobian) @ jacobian)
        assert (products / np.linalg.norm(jacobian, axis=1)).min() >= -1e-9


def test_without_conflict_it_is_the_mean():
    jacobian = np.abs(np.random.default_rng(5).standard_normal((4, 6)))
    np.testing.assert_array_equal(weigh(jacobian), np.full(4, 0.25))


def test_orthogonal_gradients_are_averaged():
    np.testing.assert_array_equal(weigh(np.diag([3.0, 0.1, 20.0])), np.full(3, 1 / 3))


def test_each_projection_is_linear_in_its_gradient():
    jacobian = np.random.default_rng(6).standard_normal((5, 4))
    before = projections(jacobian @ jacobian.T) @ jacobian
    scales = 10.0 ** np.array([-3.0, 2.0, 0.0, 1.0, -1.0])
    scaled = jacobian * scales[:, None]
    after = projections(scaled @ scaled.T) @ scaled
    np.testing.assert_allclose(after, before * scales[:, None], rtol=1e-7, atol=1e-12)


def test_a_gradient_of_zero_takes_no_part():
    jacobian = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    without = weigh(jacobian[[0, 2]])
    np.testing.assert_allclose(weigh(jacobian)[[0, 2]], without * 2 / 3, rtol=1e-12)


def test_opposite_gradients_cancel():
    jacobian = np.array([[1.0, 0.0], [-3.0, 0.0]])
    np.testing.assert_allclose(weigh(jacobian) @ jacobian, 0, atol=1e-12)


def test_torchjd_agrees():
    pytest.importorskip("quadprog")
    aggregation = pytest.importorskip("torchjd.aggregation")
    source = torch.Generator().manual_seed(0)
    for tasks in (2, 3, 8):
        jacobian = torch.randn(tasks, 10, generator=source, dtype=torch.float64) - 0.2
        theirs = aggregation.UPGrad()(jacobian)
        ours = torch.from_numpy(weigh(jacobian.numpy())) @ jacobian
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)  # it adds 1e-4 to G
