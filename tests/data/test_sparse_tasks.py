import numpy as np
import pytest
import torch

from mtlbook.data.sparse_tasks import low_rank_tasks, sparse_tasks
from mtlbook.errors import UsageError


def used(world):
    """For each task the set of the features that it uses."""
    return [set(np.flatnonzero(column).tolist()) for column in world.coefficients.T.numpy()]


@pytest.mark.parametrize("overlap", [0.0, 1 / 3, 0.5, 1.0])
@pytest.mark.parametrize("values", ["equal", "gaussian"])
def test_the_dial_is_the_share_of_features_that_all_tasks_use(overlap, values):
    for seed in range(3):
        world = sparse_tasks(seed, tasks=3, rows=2, overlap=overlap, values=values)
        first, second, third = used(world)
        assert len(first) == len(second) == len(third) == 6
        assert len(first & second & third) == round(6 * overlap)
        assert first & second == first & third == second & third
        if values == "equal":
            assert world.coefficients.abs().sum() == 18


def test_the_targets_are_linear_in_the_tasks_own_inputs():
    world = sparse_tasks(0, tasks=2, rows=5000, overlap=0.5, noise=0.3)
    residual = world.targets - torch.einsum("tnp,pt->nt", world.inputs_by_task, world.coefficients)
    assert np.isclose(float(residual.std()), 0.3, rtol=0.03)
    assert not torch.equal(world.inputs_by_task[0], world.inputs_by_task[1])
    second = world.data.tasks[1].name
    own = world.data.labelled[second]
    assert torch.equal(world.data.inputs[own], world.inputs_by_task[1])
    assert torch.equal(world.data.targets[second][own, 0], world.targets[:, 1])


def test_turning_the_dial_leaves_values_and_inputs_as_they_were():
    apart, together = (sparse_tasks(1, rows=10, overlap=overlap) for overlap in (0.5, 1.0))
    assert torch.equal(apart.data.inputs, together.data.inputs)
    assert torch.equal(apart.coefficients[:, 0], together.coefficients[:, 0])
    same = apart.coefficients[:, 1] == together.coefficients[:, 1]
    assert (apart.coefficients[same, 1] != 0).sum() == 3
    assert torch.allclose(apart.targets[:, 0], together.targets[:, 0])


def test_fewer_rows_and_fewer_tasks_are_the_first_ones():
    few, many = sparse_tasks(2, rows=5), sparse_tasks(2, tasks=4, rows=9)
    assert torch.equal(few.inputs_by_task, many.inputs_by_task[:2, :5])
    assert torch.equal(few.targets, many.targets[:5, :2])
    assert torch.equal(few.coefficients, many.coefficients[:, :2])


def test_signs_are_of_both_kinds_and_differ_between_tasks_and_seeds():
    worlds = [sparse_tasks(seed, rows=1).coefficients for seed in range(50)]
    signs = torch.stack([w[w.abs().sum(1) > 0].sign() for w in worlds])
    assert abs(float(signs.mean())) < 0.2
    assert abs(float((signs[..., 0] * signs[..., 1]).mean())) < 0.2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"overlap": 0.4}, r"a multiple of 1/6 between 0 and 1, not 0\.4"),
        ({"overlap": 1.5}, "between 0 and 1"),
        ({"tasks": 11}, "11 tasks that share nothing use 11 · 6 features, of which there are 64"),
        ({"values": "uniform"}, "values must be one of equal, gaussian, not 'uniform'"),
        ({"support": 0}, "support must be at least 1"),
    ],
)
def test_a_world_that_cannot_be_is_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        sparse_tasks(0, rows=3, **settings)


@pytest.mark.parametrize("rank", [1, 2, 10])
def test_low_rank_coefficients_have_so_many_equal_singular_values(rank):
    world = low_rank_tasks(0, rows=3, rank=rank)
    values = torch.linalg.svdvals(world.coefficients)
    assert torch.allclose(values[:rank], values[0].expand(rank))
    assert torch.allclose(values[rank:], torch.zeros(()).double())
    assert np.isclose(float((world.coefficients**2).sum(0).mean()), 1)  # the signal's variance


def test_at_full_rank_no_two_tasks_have_anything_in_common():
    coefficients = low_rank_tasks(3, rows=3, rank=10).coefficients
    assert torch.allclose(coefficients.T @ coefficients, torch.eye(10).double())


def test_a_rank_above_the_number_of_tasks_is_refused():
    with pytest.raises(UsageError, match="at most the number of tasks, 10, and of features, 20"):
        low_rank_tasks(0, rows=3, rank=11)
