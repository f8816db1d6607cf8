import math

import numpy as np
import pytest

from mtlbook.book.experiments.paths import (
    ReplicatedDesigns,
    best_on_validation,
    regularisation_paths,
)
from mtlbook.non_neural.block_sparse import (
    BlockSparseRegression,
    RowsInL2,
    RowsInMaximum,
    RowsInSum,
)
from mtlbook.non_neural.dirty_model import BlockPlusSparse, DirtyModel
from mtlbook.non_neural.proximal_gradient import SeparateDesigns

SOURCE = np.random.default_rng(0)
INPUTS = SOURCE.normal(size=(3, 2, 25, 30))  # replicates, tasks, examples, features
TRUTH = SOURCE.normal(size=(3, 2, 30)) * (np.arange(30) < 4)
TARGETS = np.einsum("rtnp,rtp->rtn", INPUTS, TRUTH) + 0.3 * SOURCE.normal(size=(3, 2, 25))


def test_the_design_is_that_of_each_replicate():
    design = ReplicatedDesigns(INPUTS)
    weights, outputs = SOURCE.normal(size=(3 * 30, 2)), SOURCE.normal(size=(3 * 2, 25))
    for replicate in range(3):
        own = SeparateDesigns(INPUTS[replicate])
        rows, tasks = slice(30 * replicate, 30 * (replicate + 1)), slice(2 * replicate, None)
        assert np.allclose(design.forward(weights)[tasks][:2], own.forward(weights[rows]))
        assert np.allclose(design.adjoint(outputs)[rows], own.adjoint(outputs[tasks][:2]))


@pytest.mark.parametrize(
    ("penalty", "estimator"),
    [
        (RowsInSum, lambda strength: BlockSparseRegression(strength, q=1)),
        (RowsInL2, lambda strength: BlockSparseRegression(strength, q=2)),
        (RowsInMaximum, lambda strength: BlockSparseRegression(strength, q=math.inf)),
        (
            lambda strength: BlockPlusSparse(1.5 * strength, strength),
            lambda strength: DirtyModel(1.5 * strength, strength),
        ),
    ],
    ids=["q = 1", "q = 2", "q = ∞", "dirty"],
)
def test_a_path_holds_what_the_estimator_finds_for_each_replicate(penalty, estimator):
    strengths = [0.5, 0.2, 0.05]
    path = regularisation_paths(
        INPUTS, TARGETS, [penalty(strength) for strength in strengths], tolerance=1e-13
    )
    assert path.weights.shape == (3, 3, 30, 2)
    assert (path.gaps <= 1e-13 * (TARGETS**2).sum() / 25).all()
    for strength, weights in zip(strengths, path.weights, strict=True):
        for inputs, targets, own in zip(INPUTS, TARGETS, weights, strict=True):
            model = estimator(strength).set_params(fit_intercept=False, tol=1e-13)
            model.fit(inputs.reshape(50, 30), targets.ravel(), tasks=np.repeat([0, 1], 25))
            assert np.allclose(own, model.coef_.T, rtol=0, atol=1e-6)


def test_each_replicate_or_task_gets_the_weights_that_predict_best():
    """Three candidates: the truth of task 0, the truth of task 1, and in between for both."""
    truth = TRUTH.swapaxes(1, 2)
    wrong = truth + 1
    weights = np.stack(
        [
            np.stack([truth[..., 0], wrong[..., 1]], axis=2),
            np.stack([wrong[..., 0], truth[..., 1]], axis=2),
            truth + 0.1,
        ]
    )
    own = best_on_validation(weights, INPUTS, TARGETS, each_task=True)
    assert own.positions.tolist() == [[0, 1]] * 3
    assert np.array_equal(own.weights, truth)
    both = best_on_validation(weights, INPUTS, TARGETS)
    assert both.positions.tolist() == [[2, 2]] * 3
    assert np.array_equal(both.weights, truth + 0.1)
    residual = TARGETS - np.einsum("rtnp,rpt->rtn", INPUTS, truth + 0.1)
    assert np.allclose(both.losses, (residual**2).mean(axis=(1, 2)))
    assert (own.losses < both.losses).all()
