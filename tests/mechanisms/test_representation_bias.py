"""Representation bias against what is known by construction, in closed form, or from libraries."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import special_ortho_group

from mtlbook.data import embedded
from mtlbook.errors import UsageError
from mtlbook.mechanisms.representation_bias import (
    descend,
    digit_environment,
    double_well,
    environment,
    floor_and_slope,
    recovered_subspace,
    true_features,
)
from mtlbook.randomness import generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test", *shape), dtype=torch.float64)


# Double wells ------------------------------------------------------------------------------------


def test_the_sum_of_two_wells_has_the_common_minimum_alone():
    # As a polynomial: the only real zero of the derivative is 1, and it is a minimum.
    one = np.polynomial.Polynomial([1, 0, -2, 0, 1])
    both = one + one(np.polynomial.Polynomial([-2, 1]))
    zeros = both.deriv().roots()
    real = zeros[np.abs(zeros.imag) < 1e-6].real
    np.testing.assert_allclose(real, 1, atol=1e-6)
    grid = torch.linspace(-2, 4, 50, dtype=torch.float64)
    total = double_well(grid, 0.0) + double_well(grid, 2.0)
    np.testing.assert_allclose(total.numpy(), both(grid.numpy()), atol=1e-10)


def test_descent_ends_in_the_minima():
    starts = torch.linspace(-1.5, 3.5, 40, dtype=torch.float64)
    alone = descend(starts, [0.0])
    # The wells' watershed lies at the centre.
    expected = torch.where(starts > 0, 1.0, -1.0).double()
    torch.testing.assert_close(alone, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        descend(starts, [0.0, 2.0]), torch.ones(40, dtype=torch.float64), atol=1e-4, rtol=0
    )
    assert torch.equal(starts, torch.linspace(-1.5, 3.5, 40, dtype=torch.float64))


def test_descent_follows_the_gradient():
    theta = torch.tensor([0.3, 2.7], dtype=torch.float64, requires_grad=True)
    (double_well(theta, 0.0) + double_well(theta, 2.0)).sum().backward()
    assert theta.grad is not None
    stepped = descend(theta.detach(), [0.0, 2.0], steps=1, step_size=0.01)
    torch.testing.assert_close(stepped, theta.detach() - 0.01 * theta.grad)


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
        ({"inputs": 7}, "twice"),
        ({"overlap": 1.1}, "between 0 and 1"),
        ({"noise": -0.1}, "noise must be a number of at least 0"),
    ],
)
def test_impossible_environments_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        environment(0, **{"tasks": ["a"], "rows": 3} | wrong)


# Digits ------------------------------------------------------------------------------------------


def test_every_task_of_the_digits_parts_them_in_five_and_five():
    data = digit_environment(0, tasks=range(126), images=range(1797))
    labels = digits_of(data.inputs)
    groups = set()
    for target in data.targets.values():
        positive = labels[target[:, 0] > 0].unique()
        assert len(positive) == 5
        assert 0 in positive
        assert set(target.unique().tolist()) == {-1.0, 1.0}
        groups.add(tuple(positive.tolist()))
    assert groups == {(0, *others) for others in combinations(range(1, 10), 4)}


def digits_of(inputs):
    """The digit that each image shows, looked up among all images."""
    known = embedded.digits("digit")
    by_pixels = {
        image.numpy().tobytes(): int(digit)
        for image, digit in zip(known.inputs, known.targets["digit"], strict=True)
    }
    return torch.tensor([by_pixels[image.numpy().tobytes()] for image in inputs])


def test_parts_of_the_images_are_disjoint_and_tasks_keep_their_names():
    both = digit_environment(4, tasks=range(3), images=range(10))
    later = digit_environment(4, tasks=range(2, 3), images=range(6, 10))
    assert torch.equal(both.inputs[6:], later.inputs)
    assert torch.equal(both.targets["groups_2"][6:], later.targets["groups_2"])
    assert list(later.targets) == ["groups_2"]


def test_each_seed_shuffles_images_and_tasks():
    whole = embedded.digits("digit").inputs
    one, other = (digit_environment(s, tasks=range(126), images=range(1797)) for s in (0, 1))
    assert not torch.equal(one.inputs, whole)
    assert not torch.equal(one.inputs, other.inputs)
    for data in (one, other):
        assert sorted(data.inputs.tolist()) == sorted(whole.tolist())
    groups = [
        [digits_of(d.inputs[t[:, 0] > 0]).unique().tolist() for t in list(d.targets.values())[:5]]
        for d in (one, other)
    ]
    assert groups[0] != groups[1]


@pytest.mark.parametrize("in_place", [0.0, 0.5, 1.0])
def test_a_share_of_the_pixels_keeps_its_place(in_place):
    plain = digit_environment(0, tasks=range(1), images=range(300)).inputs
    moved = digit_environment(0, tasks=range(1), images=range(300), in_place=in_place).inputs
    # The same values in other columns; some pixels are blank in all images.
    assert torch.equal(plain.sort(1).values, moved.sort(1).values)
    shown = plain.std(0) > 0
    kept = (plain == moved).all(0)[shown].double().mean()
    assert float(kept) == pytest.approx(in_place, abs=0.12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": range(127)}, "task of 0 to 125"),
        ({"images": range(0)}, "at least one image"),
        ({"images": range(1790, 1800)}, "1797 images"),
        ({"in_place": -0.1}, "a share"),
    ],
)
def test_impossible_digits_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        digit_environment(0, **{"tasks": range(1), "images": range(5)} | wrong)


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


# Baxter's curve ----------------------------------------------------------------------------------


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_the_constants_of_an_exact_curve_are_found(a, b):
    tasks = [1, 2, 4, 8, 16]
    errors = np.array([[a + b / K, 2 * a - b / K] for K in tasks])
    floor, slope = floor_and_slope(tasks, errors)
    np.testing.assert_allclose(floor, [a, 2 * a], atol=1e-9)
    np.testing.assert_allclose(slope, [b, -b], atol=1e-9)


def test_the_mean_of_the_constants_is_that_of_the_mean_curve():
    tasks, errors = [1, 2, 4, 8], np.abs(normal(4, 6).numpy())
    floor, slope = floor_and_slope(tasks, errors)
    expected = np.polyfit(1 / np.array(tasks), errors.mean(1), 1)
    np.testing.assert_allclose([slope.mean(), floor.mean()], expected)


@pytest.mark.parametrize("tasks", [[4], [2, 2], [0, 1]])
def test_a_line_needs_two_counts(tasks):
    with pytest.raises(UsageError, match="two different K"):
        floor_and_slope(tasks, np.ones((len(tasks), 2)))


def test_the_variance_of_a_feature_is_that_of_tanh():
    # By another quadrature, on a finer grid.
    points = np.linspace(-12, 12, 20_001)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    phi = true_features(torch.from_numpy(points)[:, None], torch.ones(1, 1).double())[:, 0].numpy()
    assert np.trapezoid(phi**2 * density, points) == pytest.approx(1, abs=1e-10)
