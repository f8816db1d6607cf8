"""Gated auxiliary gradients: the guarantee, the limits, and training by `fit`."""

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.similarity_gating import SimilarityGating
from mtlbook.balancing.backward import backward
from mtlbook.combiner import Evidence
from mtlbook.errors import UsageError

NAMES = ("aux", "main", "other")


def weights(rule: SimilarityGating, jacobian: np.ndarray, known: tuple = (True,) * 3) -> np.ndarray:
    gramian = torch.from_numpy(jacobian @ jacobian.T)
    losses = torch.ones(3, dtype=torch.float64)
    return rule.weigh(Evidence(losses, torch.tensor(known), gramian=gramian)).numpy()


@pytest.mark.parametrize("weighted", [True, False])
def test_the_main_loss_falls_at_least_as_fast_as_alone(weighted):
    rule = SimilarityGating(NAMES, "main", weighted=weighted)
    summed = 0
    for seed in range(50):
        jacobian = np.random.default_rng(seed).standard_normal((3, 4)) * [[10], [1], [0.1]]
        combined = weights(rule, jacobian) @ jacobian
        assert combined @ jacobian[1] >= jacobian[1] @ jacobian[1] * (1 - 1e-12)
        summed += jacobian.sum(0) @ jacobian[1] < 0
    assert summed > 5  # which the plain sum does not give


def test_gates_are_cosines_or_all_or_nothing():
    jacobian = np.array([[3.0, 4.0], [2.0, 0.0], [-1.0, 5.0]])
    np.testing.assert_allclose(weights(SimilarityGating(NAMES, "main"), jacobian), [0.6, 1, 0])
    whole = SimilarityGating(NAMES, "main", weighted=False)
    np.testing.assert_array_equal(weights(whole, jacobian), [1, 1, 0])


def test_without_a_main_label_or_gradient_nothing_agrees():
    rule = SimilarityGating(NAMES, "main")
    same = np.ones((3, 2))
    np.testing.assert_array_equal(weights(rule, same, (True, False, True)), 0)
    silent = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(weights(rule, silent), [0, 1, 0])


def test_in_a_loop_heads_follow_their_own_losses():
    trunk = torch.tensor([1.0, 0.0], requires_grad=True)
    heads = [torch.tensor(1.0, requires_grad=True) for _ in NAMES]
    directions = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    losses = [head * (trunk @ direction) for head, direction in zip(heads, directions, strict=True)]
    backward(losses, [trunk, *heads], SimilarityGating(NAMES, "main"))
    share = 2**-0.5
    torch.testing.assert_close(trunk.grad, directions[1] + share * directions[2])
    assert [float(head.grad) for head in heads if head.grad is not None] == [-1, 1, 1]


def test_an_unknown_main_task_is_named():
    with pytest.raises(UsageError, match="'nothing' is not one of the tasks"):
        SimilarityGating(NAMES, "nothing")
