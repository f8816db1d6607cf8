"""Gramians that solvers find hard, for the tests of the rules that solve for weights."""

import numpy as np
import pytest
from numpy import ndarray


def hard_gramians(number: int = 200) -> list[ndarray]:
    """Random ones: norms from 1e-4 to 1e4, near rank-deficient, deficient, or of a tiny scale."""
    source = np.random.default_rng(0)
    found = []
    for n in range(number):
        tasks = int(source.integers(2, 21))
        rows = source.standard_normal((tasks, tasks + 5)) + source.uniform(-1, 1)
        kind = n % 5
        if kind == 1:
            rows *= 10.0 ** source.uniform(-4, 4, (tasks, 1))
        elif kind == 2:  # fewer dimensions than tasks
            rows = rows[:, : max(1, tasks // 2)]
        elif kind == 3:  # one gradient almost the sum of the others, or against it
            rows[0] = (-1) ** n * rows[1:].sum(0) + 1e-7 * source.standard_normal(tasks + 5)
        elif kind == 4:  # more tasks than dimensions, of any scale
            rows = rows[:, : max(1, tasks - 1)] * 1e-6 * 10.0 ** source.uniform(-3, 3, (tasks, 1))
        found.append(rows @ rows.T)
    return found


every_gramian = pytest.mark.parametrize(
    "gramian", hard_gramians(), ids=lambda gramian: f"{len(gramian)}"
)
