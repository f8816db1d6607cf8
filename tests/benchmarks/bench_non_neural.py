"""How fast the block-sparse solver is, against scikit-learn's compiled `MultiTaskLasso`.

Both are timed side by side in one run until the same certified duality gap, and the ratio is what
counts. Run with nothing else on the machine, and without the checks of types:

    pytest tests/benchmarks -n 0 -s --jaxtyping-packages=
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from sklearn.linear_model import MultiTaskLasso
from threadpoolctl import threadpool_limits

from mtlbook.non_neural.block_sparse import BlockSparseRegression

EXAMPLES, FEATURES, TASKS = 500, 2000, 20
TOLERANCE, AIM, ROUNDS = 1e-6, 3.0, 3
# As shares of the least strength that leaves no weights; at the last, most features have weights.
STRENGTHS = [0.5, 0.1, 0.05, 0.01]


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


def world() -> tuple[np.ndarray, np.ndarray]:
    """Twenty features of two thousand matter, to all tasks."""
    source = np.random.default_rng(0)
    inputs = source.normal(size=(EXAMPLES, FEATURES))
    weights = source.normal(size=(FEATURES, TASKS)) * (np.arange(FEATURES) < 20)[:, None]
    return inputs, inputs @ weights + 2 * source.normal(size=(EXAMPLES, TASKS))


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


@pytest.mark.parametrize("share", STRENGTHS)
def bench_against_multi_task_lasso(benchmark, share):
    inputs, outputs = world()
    centred = outputs - outputs.mean(axis=0)
    squares = (centred**2).sum() / EXAMPLES
    correlations = (inputs - inputs.mean(axis=0)).T @ centred / EXAMPLES
    strength = share * np.linalg.norm(correlations, axis=1).max()
    # Both stop where gap ≤ tol · ‖Y‖² / n, scikit-learn seldom far below it.
    ours = BlockSparseRegression(strength, tol=TOLERANCE)
    theirs = MultiTaskLasso(strength, tol=TOLERANCE, max_iter=100_000)
    ratios = [
        seconds(lambda: ours.fit(inputs, outputs)) / seconds(lambda: theirs.fit(inputs, outputs))
        for _ in range(ROUNDS)
    ]
    assert ours.dual_gap_ <= TOLERANCE * squares
    assert theirs.dual_gap_ <= TOLERANCE * squares
    assert np.allclose(ours.coef_, theirs.coef_, atol=0.01)
    benchmark.pedantic(ours.fit, args=(inputs, outputs), rounds=1)
    benchmark.extra_info["ratio"] = median(ratios)
    print(
        f"\n{EXAMPLES} × {FEATURES}, {TASKS} tasks, {ours.coef_.any(axis=0).sum()} features with "
        f"weights: {median(ratios):.2f} times as long as MultiTaskLasso ({min(ratios):.2f} to "
        f"{max(ratios):.2f}; aim {AIM} at most)"
    )
