"""How long fully-adaptive sharing takes beside the training: cutting filters, grouping tasks.

At the sizes of a convolutional network for faces, 512 filters of 512 channels in 3 × 3 places and
40 attributes, both take about a second at most, in processor time on one thread:

    pytest tests/benchmarks/bench_fully_adaptive.py -n 0 -s --jaxtyping-packages=
"""

from collections.abc import Callable
from time import process_time

import pytest
import torch

from mtlbook.architectures.fully_adaptive_sharing import Tree, affinity, chance_corrected, widen
from mtlbook.architectures.matching_pursuit import somp

SECONDS = 5.0  # the aim: seconds, not minutes


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def timed(benchmark, what: str, run: Callable[[], object]) -> None:
    start = process_time()
    benchmark.pedantic(run, rounds=1)
    taken = process_time() - start
    print(f"\n{what}: {taken:.2f} s (aim: {SECONDS:g} s at most)")
    assert taken < SECONDS


@pytest.mark.parametrize("keep", [64, 256, 512])
def bench_somp(benchmark, keep):
    filters = torch.randn(512, 512 * 9, dtype=torch.float64)
    timed(benchmark, f"SOMP: {keep} of 512 filters", lambda: somp(filters, keep))


@pytest.mark.parametrize("tasks", [8, 40])
def bench_grouping(benchmark, tasks):
    """A tree of five stages: 1 to 40 groups tried at each."""
    of_tasks = affinity(torch.rand(5_000, tasks, dtype=torch.float64))

    def grow() -> Tree:
        tree = Tree.trunk(tasks, 5)
        for stage in reversed(range(5)):
            tree = widen(tree, stage, of_tasks, alpha=50.0)
        return tree

    timed(benchmark, f"spectral grouping: {tasks} tasks, 5 stages", grow)


def bench_affinity(benchmark):
    margins = torch.rand(100_000, 40, dtype=torch.float64)

    def both() -> None:
        affinity(margins)
        chance_corrected(margins)

    timed(benchmark, "affinity and κ: 40 tasks, 100,000 rows", both)
