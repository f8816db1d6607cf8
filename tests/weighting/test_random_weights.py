import numpy as np
import pytest
import torch
from torch import Tensor

from mtlbook.combiner import Evidence
from mtlbook.weighting.random_weights import RandomWeights

pytestmark = pytest.mark.usefixtures("double")
TASKS = ["a", "b", "c"]


def evidence(*labelled: bool) -> Evidence:
    return Evidence(torch.ones(len(labelled)), torch.tensor(labelled))


def drawn(combiner: RandomWeights, times: int) -> Tensor:
    return torch.stack([combiner.weigh(evidence(True, True, True)) for _ in range(times)])


def test_weights_are_the_softmax_of_normal_numbers():
    """Log-ratios of weights are differences of two standard normals: variance 2, mean 0."""
    weights = drawn(RandomWeights(TASKS), 3000)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-12)
    ratios = weights.log().diff(dim=1)
    np.testing.assert_allclose(ratios.mean(0), 0, atol=4 * (2 / 3000) ** 0.5)
    np.testing.assert_allclose(ratios.var(0), 2, atol=4 * 2 * (2 / 3000) ** 0.5)
    covariance = (ratios[:, 0] * ratios[:, 1]).mean()  # of (z_1 - z_0)(z_2 - z_1): -Var z_1
    assert float(covariance) == pytest.approx(-1, abs=4 * (5 / 3000) ** 0.5)
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.02)


def test_a_step_s_numbers_depend_on_seed_and_step_alone():
    together = drawn(RandomWeights(TASKS, seed=5), 4)
    late = RandomWeights(TASKS, seed=5)
    late.draws.fill_(2)
    assert torch.equal(drawn(late, 2), together[2:])
    assert not torch.equal(drawn(RandomWeights(TASKS, seed=6), 4), together)


def test_a_task_more_leaves_the_ratios_of_the_others():
    few = RandomWeights(TASKS[:2]).weigh(evidence(True, True))
    many = RandomWeights(TASKS).weigh(evidence(True, True, False))
    np.testing.assert_allclose(many, [*few.tolist(), 0], rtol=1e-12)
