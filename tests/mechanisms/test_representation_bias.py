"""Representation bias against what is known by construction, in closed form, or from libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import special_ortho_group

from mtlbook.errors import UsageError
from mtlbook.mechanisms.representation_bias import (
    environment,
    recovered_subspace,
    true_features,
)
from mtlbook.randomness import generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test", *shape), dtype=torch.float64)


# Environment -------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 5))
def test_all_principal_angles_are_those_of_the_dial(overlap, features):
    def matrix(rho):
        world = environment(3, tasks=["t"], rows=1, inputs=10, features=features, overlap=rho)
        return world.features["t"].numpy()

    angles = subspace_angles(matrix(1.0), matrix(overlap))
    np.testing.assert_allclose(np.cos(angles), overlap, atol=1e-7)


def test_the_dial_changes_nothing_but_the_representation():
    home = environment(1, tasks=["a", "b"], rows=7)
    away = environment(1, tasks=["a", "b"], rows=7, overlap=0.0)
    assert torch.equal(home.data.inputs, away.data.inputs)
    for name in "ab":
        assert torch.equal(home.heads[name], away.heads[name])
        noise = [
            world.data.targets[name][world.data.labelled[name]] - world.noiseless[name]
            for world in (home, away)
        ]
        torch.testing.assert_close(noise[0], noise[1])
        assert not torch.allclose(home.noiseless[name], away.noiseless[name])


def test_a_task_does_not_depend_on_its_company():
    alone = environment(1, tasks=["b"], rows=5)
    among = environment(1, tasks=["a", "b", "c"], rows=5)
    rows = among.data.labelled["b"]
    assert torch.equal(among.data.inputs[rows], alone.data.inputs)
    assert torch.equal(among.data.targets["b"][rows], alone.data.targets["b"])
    assert not torch.equal(environment(2, tasks=["b"], rows=5).data.inputs, alone.data.inputs)


def test_same_inputs_label_every_row_for_all():
    data = environment(0, tasks=["a", "b"], rows=6, same_inputs=True).data
    assert data.inputs.shape == (6, 20)
    assert all(marks.all() for marks in data.labelled.values())
    other = environment(0, tasks=["c"], rows=6, same_inputs=True).data
    assert not torch.equal(other.inputs, data.inputs)


def test_spanning_tasks_show_every_feature_equally():
    names = [f"source_{number}" for number in range(1, 11)]
    free = environment(1, tasks=names, rows=3)
    made = environment(1, tasks=names, rows=3, spanning=True)
    heads = torch.stack([made.heads[name] for name in names])
    for group in (heads[:4], heads[4:8], heads[8:]):
        torch.testing.assert_close(group @ group.T, torch.eye(len(group), dtype=torch.float64))
    torch.testing.assert_close(made.heads["source_1"], free.heads["source_1"])
    torch.testing.assert_close(made.heads["source_5"], free.heads["source_5"])
    assert torch.equal(made.data.inputs, free.data.inputs)


def test_signal_and_features_have_variance_1():
    world = environment(0, tasks=["a", "b"], rows=200_000, noise=0.5, same_inputs=True)
    phi = true_features(world.data.inputs, world.features["a"])
    covariance = torch.cov(phi.T)
    torch.testing.assert_close(covariance, torch.eye(4).double(), atol=0.01, rtol=0)
    for name in "ab":
        assert float(world.heads[name].norm()) == pytest.approx(1)
        torch.testing.assert_close(phi @ world.heads[name], world.noiseless[name][:, 0])
        assert float(world.noiseless[name].var()) == pytest.approx(1, abs=0.01)
        error = world.data.targets[name] - world.noiseless[name]
        assert float(error.std()) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": []}, "at least 1"),
        ({"rows": 0}, "at least 1"),
        ({"inputs": 7}, "inputs must be at least 8, not 7"),
        ({"overlap": 1.1}, "between 0 and 1"),
        ({"noise": -0.1}, "noise must be a number of at least 0"),
    ],
)
def test_impossible_environments_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        environment(0, **{"tasks": ["a"], "rows": 3} | wrong)


# Probe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.8, 1.0])
def test_a_layer_that_looks_at_another_environment_recovers_the_squared_cosine(overlap):
    home = environment(0, tasks=["t"], rows=1).features["t"]
    seen = environment(0, tasks=["t"], rows=1, overlap=overlap).features["t"]
    weights = normal(16, 4) @ seen.T + 1e-9 * normal(16, 20)
    assert recovered_subspace(weights, home) == pytest.approx(overlap**2, abs=1e-6)


def test_only_the_leading_directions_count_and_their_lengths_do_not():
    turned = torch.from_numpy(special_ortho_group.rvs(6, random_state=0))
    weights = torch.diag(torch.tensor([9.0, 3.0, 0.5, 0.1, 0.1, 0.1]).double()) @ turned.T
    assert recovered_subspace(weights, turned[:, :2]) == pytest.approx(1)
    assert recovered_subspace(weights, turned[:, [0, 2]]) == pytest.approx(0.5)
    assert recovered_subspace(weights, 7 * turned[:, 4:]) == pytest.approx(0, abs=1e-9)


def test_directions_at_random_recover_the_ratio_of_dimensions():
    home = environment(0, tasks=["t"], rows=1).features["t"]
    shares = [recovered_subspace(normal(16, 20, seed=seed), home) for seed in range(300)]
    assert np.mean(shares) == pytest.approx(4 / 20, abs=0.01)


def test_the_variance_of_a_feature_is_that_of_tanh():
    # By another quadrature, on a finer grid.
    points = np.linspace(-12, 12, 20_001)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    phi = true_features(torch.from_numpy(points)[:, None], torch.ones(1, 1).double())[:, 0].numpy()
    assert np.trapezoid(phi**2 * density, points) == pytest.approx(1, abs=1e-10)
