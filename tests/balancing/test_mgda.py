import numpy as np
import pytest
import torch

from mtlbook.balancing.mgda import MGDA, min_norm_weights
from mtlbook.combiner import Evidence
from tests.balancing.gramians import every_gramian


def weigh(rows: list[list[float]]) -> torch.Tensor:
    jacobian = torch.tensor(rows, dtype=torch.float64)
    names = [f"task_{n}" for n in range(len(rows))]
    losses = torch.ones(len(rows), dtype=torch.float64)
    known = torch.ones(len(rows), dtype=torch.bool)
    return MGDA(names).weigh(Evidence(losses, known, gramian=jacobian @ jacobian.mT))


@every_gramian
def test_the_optimality_conditions_hold(gramian):
    """(Ga)_i ≥ aᵀGa for all i, equal where a_i > 0; relative to the scale of the problem."""
    a = min_norm_weights(gramian)
    assert (a >= 0).all()
    assert a.sum() == pytest.approx(1, abs=1e-12)
    products, square = gramian @ a, a @ gramian @ a
    scale = np.trace(gramian) / len(a)
    assert (products - square).min() >= -1e-8 * scale
    assert (a * np.abs(products - square)).max() <= 1e-8 * scale


@every_gramian
def test_no_other_weights_give_a_shorter_vector(gramian):
    """Against the certificate's bound in the problem's own unit, the minimum itself: strict."""
    a = min_norm_weights(gramian)
    norms = np.sqrt(gramian.diagonal())
    # For every point of the simplex aᵀGa ≤ the shortest gradient's square.
    assert a @ gramian @ a <= norms.min() ** 2 * (1 + 1e-9)
    # Duality: aᵀGa - min_i (Ga)_i bounds how far aᵀGa is from the minimum.
    gap = a @ gramian @ a - (gramian @ a).min()
    assert gap <= 1e-8 * norms.min() * norms.max()


@pytest.mark.parametrize(("cosine", "length"), [(0.3, 0.5), (-0.6, 3.0), (0.9, 2.0), (0.9, 1.01)])
def test_two_tasks_have_the_clipped_formula(cosine, length):
    first = np.array([length, 0.0])
    second = np.array([cosine, np.sqrt(1 - cosine**2)])
    share = (second - first) @ second / ((first - second) @ (first - second))
    found = weigh([first.tolist(), second.tolist()])
    assert float(found[0]) == pytest.approx(np.clip(share, 0, 1), abs=1e-12)


def test_orthogonal_gradients_weigh_by_the_inverse_squares():
    found = weigh([[2, 0, 0], [0, 0.1, 0], [0, 0, 30]])
    expected = np.array([1 / 4, 100, 1 / 900])
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)


def test_opposite_gradients_cancel():
    found = weigh([[1.0, 0.0], [-3.0, 0.0]])
    np.testing.assert_allclose(found, [0.75, 0.25], rtol=1e-12)


def test_a_gradient_of_zero_is_the_shortest_vector():
    np.testing.assert_array_equal(weigh([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), [0, 1, 0])
    np.testing.assert_array_equal(weigh([[0.0], [0.0]]), [0.5, 0.5])
