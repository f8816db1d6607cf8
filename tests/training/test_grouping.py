"""Grouping tasks: the affinity's limit, the best partition, and a world with known groups."""

from itertools import product

import numpy as np
import pytest
import torch

from mtlbook.balancing.affinity import AffinityRecorder, best_partition
from mtlbook.balancing.backward import backward
from mtlbook.book.experiments import mlp
from mtlbook.data.constructed import related_tasks
from mtlbook.errors import UsageError
from mtlbook.training.grouping import group_tasks
from mtlbook.training.settings import Settings
from mtlbook.weighting.linear_scalarisation import LinearScalarisation


def test_the_affinity_is_the_limit_of_the_paper_s():
    """1 - L_j(θ - ηg_i) / L_j(θ), by a short step of one task."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(6, generator=source, dtype=torch.float64).requires_grad_()
    targets = torch.randn(3, 6, generator=source, dtype=torch.float64)

    def losses(at: torch.Tensor) -> list[torch.Tensor]:
        return [(at - target).square().sum() ** 1.5 for target in targets]

    recorder = AffinityRecorder(list("abc"))
    backward(losses(x), [x], recorder)
    step, before = 1e-7, [float(own) for own in losses(x.detach())]
    for i in range(3):
        (gradient,) = torch.autograd.grad(losses(x)[i], [x])
        after = [float(own) for own in losses(x.detach() - step * gradient)]
        expected = [(1 - new / old) / step for new, old in zip(after, before, strict=True)]
        np.testing.assert_allclose(recorder.affinity[i], expected, rtol=1e-5)
    np.testing.assert_allclose(recorder.cosine.diagonal(), 1, rtol=1e-12)


def test_the_best_partition_is_the_best_of_all():
    """By labels 0 to K - 1 of each task, in every way."""
    for seed in range(5):
        affinity = np.random.default_rng(seed).standard_normal((5, 5))

        def worth(labels: tuple[int, ...], affinity: np.ndarray = affinity) -> float:
            return sum(
                float(
                    np.mean([affinity[i, j] for i in range(5) if labels[i] == labels[j] and i != j])
                )
                for j in range(5)
                if labels.count(labels[j]) > 1
            )

        for most in (1, 2, 5):
            groups = best_partition(affinity, most=most)
            assert sorted(task for group in groups for task in group) == list(range(5))
            assert len(groups) <= most
            labels = tuple(next(g for g, own in enumerate(groups) if t in own) for t in range(5))
            best = max(worth(tried) for tried in product(range(most), repeat=5))
            assert worth(labels) == pytest.approx(best, abs=1e-12)


def test_known_groups_are_found():
    data = related_tasks(
        7000, tasks=(2, 2), rows=300, same_inputs=True, shared_heads=0.9, noise=0.1
    ).data
    found = group_tasks(mlp, data, seeds=range(7000, 7002), settings=Settings(steps=150))
    assert found.groups == [["task_1", "task_2"], ["task_3", "task_4"]]
    assert found.affinity.shape == (2, 4, 4)


def test_a_combiner_too_many_tasks_and_no_group_are_refused():
    data = related_tasks(7000, tasks=2, rows=30, same_inputs=True).data
    weighted = Settings(steps=1, combiner=LinearScalarisation({"task_1": 1.0, "task_2": 2.0}))
    with pytest.raises(UsageError, match="leave the combiner out"):
        group_tasks(mlp, data, seeds=[0], settings=weighted)
    with pytest.raises(UsageError, match="11 tasks"):
        best_partition(np.eye(11))
    with pytest.raises(UsageError, match="at least one group"):
        best_partition(np.eye(2), most=0)
