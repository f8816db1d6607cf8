import numpy as np
import pytest
import torch
from torch import Tensor

from mtlbook.balancing.pcgrad import PCGrad, project_in_order
from mtlbook.balancing.upgrad import projections
from mtlbook.combiner import Evidence
from mtlbook.randomness import generator


def by_vectors(jacobian: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Algorithm 1 in the parameters' own space, one gradient after another."""
    changed = []
    for i, gradient in enumerate(jacobian):
        own = gradient.copy()
        for j in order[i]:
            if j != i and own @ jacobian[j] < 0:
                own -= (own @ jacobian[j]) / (jacobian[j] @ jacobian[j]) * jacobian[j]
        changed.append(own)
    return np.array(changed)


def weigh(gramian: Tensor, seed: int = 0) -> Tensor:
    names = [f"task_{n}" for n in range(len(gramian))]
    known = torch.ones(len(gramian), dtype=torch.bool)
    evidence = Evidence(torch.ones(len(gramian), dtype=torch.float64), known, gramian=gramian)
    return PCGrad(names, seed=seed).weigh(evidence)


def test_the_recursion_on_the_gramian_is_the_algorithm_on_vectors():
    source = np.random.default_rng(0)
    for _ in range(50):
        tasks = int(source.integers(2, 8))
        jacobian = source.standard_normal((3, tasks, 6)) - 0.3 * source.random()
        order = np.stack([[source.permutation(tasks) for _ in range(tasks)] for _ in range(3)])
        gramian = torch.from_numpy(jacobian @ jacobian.transpose(0, 2, 1))
        weights = project_in_order(gramian, torch.from_numpy(order)).numpy()
        for replica in range(3):
            expected = by_vectors(jacobian[replica], order[replica])
            np.testing.assert_allclose(weights[replica] @ jacobian[replica], expected, atol=1e-10)


def test_a_step_draws_its_own_order_for_each_task_by_seed_and_step():
    jacobian = np.random.default_rng(1).standard_normal((5, 3))
    gramian = torch.from_numpy(jacobian @ jacobian.T)
    combiner = PCGrad(["a", "b", "c", "d", "e"], seed=7)
    known = torch.ones(5, dtype=torch.bool)
    evidence = Evidence(torch.ones(5, dtype=torch.float64), known, gramian=gramian)
    found = [combiner.weigh(evidence).numpy() for _ in range(3)]
    assert not np.allclose(found[0], found[1])
    for step, weights in enumerate(found):
        source = generator(7, "order of gradient projections", step)
        order = torch.rand(5, 5, generator=source, dtype=torch.float64).argsort(-1).numpy()
        assert len({tuple(row) for row in order}) > 1
        np.testing.assert_allclose(
            weights @ jacobian, by_vectors(jacobian, order).sum(0), atol=1e-10
        )


def test_every_order_is_as_likely():
    """Three tasks, of which task 0 meets 1 and 2 in either order, and so do the others."""
    combiner, counts = PCGrad(["a", "b", "c"]), np.zeros(3)
    for _ in range(400):
        keys = torch.rand(3, 3, generator=combiner.sources()[0], dtype=torch.float64)
        order = keys.argsort(-1).tolist()
        counts += [own.index((i + 1) % 3) < own.index((i + 2) % 3) for i, own in enumerate(order)]
    # Within 4 standard deviations of a fair coin.
    np.testing.assert_array_less(np.abs(counts - 200), 40)


def test_two_tasks_have_twice_the_weights_of_upgrad():
    for seed in range(20):
        jacobian = np.random.default_rng(seed).standard_normal((2, 3))
        gramian = jacobian @ jacobian.T
        found = weigh(torch.from_numpy(gramian))
        np.testing.assert_allclose(found, 2 * projections(gramian).mean(0), atol=1e-9)


def test_without_conflict_it_is_the_sum():
    jacobian = np.abs(np.random.default_rng(2).standard_normal((4, 3)))
    np.testing.assert_array_equal(weigh(torch.from_numpy(jacobian @ jacobian.T)), np.ones(4))


@pytest.mark.parametrize("scale", [0.0, 1e-160])
def test_a_gradient_of_zero_changes_nothing(scale):
    jacobian = torch.tensor([[1.0, 0.0], [-scale, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    expected = weigh((jacobian @ jacobian.mT)[::2, ::2])
    np.testing.assert_allclose(weigh(jacobian @ jacobian.mT)[::2], expected)
