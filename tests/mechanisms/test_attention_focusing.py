"""Attention focusing: the data set's dial and the probes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlbook.errors import UsageError
from mtlbook.mechanisms.attention_focusing import (
    focused_tasks,
    precision,
    sensitivities,
    share,
    squared_weights,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The world ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "common", "of_any"), [(1.0, 4, 4), (0.75, 3, 6), (0.5, 2, 8), (0.0, 0, 12)]
)
def test_the_dial_is_the_number_of_inputs_that_all_tasks_use(overlap, common, of_any):
    # No input more than the tasks need.
    world = focused_tasks(3, tasks=3, rows=2, inputs=of_any, overlap=overlap)
    masks = torch.stack(list(world.relevant.values()))
    assert masks.sum(1).tolist() == [4, 4, 4]
    assert int(masks.all(0).sum()) == common
    assert int(world.relevant_to_any.sum()) == of_any
    # Whatever isn't common to all belongs to one task only.
    assert set(masks.sum(0).tolist()) <= {0, 1, 3}


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_a_target_depends_on_its_relevant_inputs_and_on_no_other(overlap):
    world = focused_tasks(1, tasks=3, rows=6000, inputs=12, overlap=overlap, noise=0.0)
    x = world.data.inputs
    for name, mask in world.relevant.items():
        y = world.data.targets[name][:, 0].numpy()
        cubic = [torch.ones(len(x), 1, dtype=torch.float64)]
        own = x[:, mask]
        cubic += [own, own**3, own[:, :, None].mul(own[:, None, :] ** 2).flatten(1)]
        cubic += [(own[:, [i]] * own[:, [j]] * own[:, [k]]) for i, j, k in [(0, 1, 2), (1, 2, 3)]]
        fitted, *_ = np.linalg.lstsq(torch.cat(cubic, 1).numpy(), y, rcond=None)
        rest = y - torch.cat(cubic, 1).numpy() @ fitted
        assert rest.var() < 0.15  # a smooth odd function of the four inputs
        others = np.abs(x[:, ~mask].numpy().T @ y) / len(y)
        assert others.max() < 5 * y.std() / math.sqrt(len(y))


def test_the_signal_has_variance_one_and_the_noise_its_own():
    clean = focused_tasks(5, tasks=4, rows=20_000, noise=0.0)
    noisy = focused_tasks(5, tasks=4, rows=20_000, noise=0.7)
    errors = []
    for name, target in clean.data.targets.items():
        assert float(target.var()) == pytest.approx(1, abs=0.05)
        errors.append(noisy.data.targets[name] - target)
    # Each task has noise of its own.
    covariance = np.cov(torch.cat(errors, 1).numpy().T)
    np.testing.assert_allclose(covariance, 0.49 * np.eye(4), atol=0.02)


def test_turning_the_dial_leaves_the_first_task_and_all_inputs_as_they_are():
    worlds = [focused_tasks(2, tasks=3, rows=7, overlap=kappa) for kappa in (0.0, 0.5, 1.0)]
    for world in worlds[1:]:
        assert torch.equal(world.data.inputs, worlds[0].data.inputs)
        assert torch.equal(world.data.targets["task_1"], worlds[0].data.targets["task_1"])
        assert torch.equal(world.relevant["task_1"], worlds[0].relevant["task_1"])
    assert not torch.equal(worlds[0].data.targets["task_2"], worlds[1].data.targets["task_2"])


def test_fewer_rows_and_tasks_are_the_first_of_more():
    more = focused_tasks(2, tasks=3, rows=9, overlap=0.5)
    fewer = focused_tasks(2, tasks=2, rows=5, overlap=0.5)
    assert torch.equal(fewer.data.inputs, more.data.inputs[:5])
    for name in ("task_1", "task_2"):
        assert torch.equal(fewer.data.targets[name], more.data.targets[name][:5])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overlap": 0.3}, "multiple of 1/4"),
        ({"overlap": 1.25}, "between 0 and 1"),
        ({"overlap": 0.0, "inputs": 11}, "use 12 inputs"),
        ({"noise": -1.0}, "noise"),
        ({"rows": 0}, "rows"),
    ],
)
def test_impossible_worlds_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        focused_tasks(0, **{"tasks": 3, "rows": 5, "inputs": 20} | wrong)


# The probe ---------------------------------------------------------------------------------------


def test_sensitivities_of_a_linear_model_are_its_squared_weights():
    layer = nn.Linear(5, 3, dtype=torch.float64)
    found = sensitivities(layer, normal(7, 5))
    torch.testing.assert_close(found, layer.weight.detach().square())


def test_sensitivities_agree_with_finite_differences():
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x, small = normal(9, 4, seed=1), 1e-5
    with torch.no_grad():
        steps = [small * row for row in torch.eye(4, dtype=torch.float64)]
        slopes = [(network(x + step) - network(x - step)) / (2 * small) for step in steps]
    expected = torch.stack([slope.square().mean(0) for slope in slopes], dim=1)
    torch.testing.assert_close(sensitivities(network, x), expected, rtol=1e-6, atol=1e-9)


def test_sensitivity_bounds_the_variance_that_involves_an_input():
    # f = x₁ + x₁ x₂ + sin x₃: of its variance, 2 involve x₁, 1 involves x₂, Var(sin x) x₃.
    x = normal(200_000, 4)
    found = sensitivities(lambda x: (x[:, 0] + x[:, 0] * x[:, 1] + x[:, 2].sin())[:, None], x)[0]
    of_sine = (1 - math.exp(-2)) / 2
    expected = [2.0, 1.0, (1 + math.exp(-2)) / 2, 0.0]
    assert found.tolist() == pytest.approx(expected, abs=0.03)
    assert found[2] > of_sine


def test_squared_weights_of_several_networks():
    weights = normal(3, 6, 4)
    expected = torch.einsum("nhj,nhj->nj", weights, weights)
    torch.testing.assert_close(squared_weights(weights), expected)


def test_share_of_known_attention():
    marks = torch.tensor([True, False, True, False])
    assert float(share(torch.tensor([1.0, 1.0, 1.0, 1.0]), marks)) == 0.5
    assert float(share(torch.tensor([3.0, 0.0, 2.0, 0.0]), marks)) == 1
    # Nothing is looked at: as if it were without preference.
    assert float(share(torch.zeros(4), marks)) == 0.5


@given(st.lists(st.floats(0, 1e3), min_size=4, max_size=4), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_shares_of_a_set_and_its_complement_add_up_whatever_the_scale(values, scale):
    attention = torch.tensor(values, dtype=torch.float64)
    marks = torch.tensor([True, False, False, True])
    assert float(share(attention, marks) + share(attention, ~marks)) == pytest.approx(1)
    assert float(share(scale * attention, marks)) == pytest.approx(float(share(attention, marks)))


def test_precision_counts_the_relevant_among_the_first():
    attention = torch.tensor([[5.0, 4.0, 3.0, 2.0], [0.0, 0.0, 0.0, 9.0]])
    marks = torch.tensor([[True, True, False, False], [True, False, False, True]])
    # Of the second output only one input is looked at: the other place is not filled by chance.
    assert precision(attention, marks).tolist() == [1.0, 0.5]
    assert precision(attention, ~marks).tolist() == [0.0, 0.0]
    with pytest.raises(UsageError, match="equally many"):
        precision(attention, torch.tensor([[True, True, False, False], [True] * 4]))
