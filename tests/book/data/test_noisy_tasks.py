"""The world of known noise against the losses and frequencies that it promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mtlbook.book.data.noisy_tasks import noisy_tasks
from mtlbook.data.constructed import related_tasks
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.errors import UsageError


def loss_of(world: SyntheticDataset, name: str, prediction: torch.Tensor) -> float:
    task = next(task for task in world.data.tasks if task.name == name)
    return float(task.loss(prediction, world.data.targets[name]).mean())


def logits(world: SyntheticDataset, name: str, temperature: float) -> torch.Tensor:
    """The signals behind a classification from the world's truth, each scaled to variance 1."""
    z = torch.tanh(world.data.inputs @ world.features[name]) @ world.heads[name]
    return z / z.std(0) / temperature


def test_the_least_squared_error_is_what_the_signal_itself_leaves():
    world = noisy_tasks(0, rows=40_000, noise=[0.1, 1.0, 3.0], scale=[1.0, 10.0, 0.5])
    assert world.least_loss == pytest.approx({"value_1": 0.01, "value_2": 100.0, "value_3": 2.25})
    for name, least in world.least_loss.items():
        # A variance from 40,000 rows has a relative standard error of √(2 / 40,000) = 0.7 %.
        assert loss_of(world, name, world.noiseless[name]) == pytest.approx(least, rel=0.03)


def test_the_signal_has_the_variance_of_its_unit():
    world = noisy_tasks(1, rows=20_000, noise=[0.5, 0.5], scale=[1.0, 10.0])
    assert float(world.noiseless["value_1"].var()) == pytest.approx(1, abs=0.05)
    assert float(world.noiseless["value_2"].var()) == pytest.approx(100, abs=5)


def test_the_signals_are_those_of_related_tasks():
    world = noisy_tasks(3, rows=50, noise=[0.5, 0.5], scale=[1.0, 4.0], shared_features=0.3)
    plain = related_tasks(3, tasks=2, rows=50, inputs=10, shared_features=0.3, same_inputs=True)
    for number, unit in ((1, 1.0), (2, 4.0)):
        own, other = f"value_{number}", f"task_{number}"
        torch.testing.assert_close(world.noiseless[own], unit * plain.noiseless[other])
        torch.testing.assert_close(world.data.targets[own], unit * plain.data.targets[other])
        assert torch.equal(world.features[own], plain.features[other])
        assert torch.equal(world.heads[own], plain.heads[other])


def test_labels_are_drawn_from_the_softmax():
    """Calibration: among rows whose class has the probability p, the class comes p of the time."""
    world = noisy_tasks(5, rows=40_000, temperature=[0.5], classes=3)
    p = logits(world, "label_1", 0.5).softmax(1)
    drawn = F.one_hot(world.data.targets["label_1"], 3).double()
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        expected, found = float(p[inside].mean()), float(drawn[inside].mean())
        # Four standard errors, and what scaling by other inputs than the world's may change.
        error = 4 * math.sqrt(expected * (1 - expected) / int(inside.sum()))
        assert found == pytest.approx(expected, abs=error + 0.01)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_the_least_cross_entropy_is_that_of_the_true_logits(temperature):
    world = noisy_tasks(2, rows=40_000, temperature=[temperature], classes=4)
    truth = logits(world, "label_1", temperature)
    least = world.least_loss["label_1"]
    assert loss_of(world, "label_1", truth) == pytest.approx(least, abs=0.02)
    for wrong in (0.5 * truth, 2 * truth, torch.zeros_like(truth)):
        assert loss_of(world, "label_1", wrong) > least
    assert torch.equal(world.noiseless["label_1"], truth.argmax(1)) or (
        float((world.noiseless["label_1"] == truth.argmax(1)).double().mean()) > 0.97
    )


def test_heat_takes_the_entropy_from_0_to_that_of_a_die():
    entropies = [
        noisy_tasks(0, rows=2000, temperature=[tau], classes=6).least_loss["label_1"]
        for tau in (0.001, 0.1, 1.0, 1000.0)
    ]
    assert entropies == sorted(entropies)
    assert entropies[0] < 0.01
    assert entropies[-1] == pytest.approx(math.log(6), abs=1e-5)


def test_two_classifications_have_labels_of_their_own():
    world = noisy_tasks(0, rows=3000, temperature=[0.1, 0.1], classes=2)
    first, second = (world.noiseless[f"label_{number}"] for number in (1, 2))
    assert 0.1 < float((first == second).double().mean()) < 0.9
    assert not torch.equal(world.heads["label_1"], world.heads["label_2"])


@settings(max_examples=20)
@given(rows=st.integers(1, 30), more=st.integers(0, 30))
def test_fewer_rows_are_the_first_of_more(rows, more):
    small, large = (
        noisy_tasks(7, rows=count, noise=[0.5], temperature=[1.0]) for count in (rows, rows + more)
    )
    assert torch.equal(small.data.inputs, large.data.inputs[:rows])
    for task in small.data.tasks:
        assert torch.equal(small.data.targets[task.name], large.data.targets[task.name][:rows])


def test_the_dials_leave_one_another_alone():
    """Noise, unit and temperature change neither the inputs nor the other tasks."""
    plain = noisy_tasks(0, rows=30, noise=[0.5, 0.5], temperature=[1.0])
    other = noisy_tasks(0, rows=30, noise=[0.5, 2.0], scale=[1.0, 7.0], temperature=[0.3])
    assert torch.equal(plain.data.inputs, other.data.inputs)
    assert torch.equal(plain.data.targets["value_1"], other.data.targets["value_1"])
    torch.testing.assert_close(7 * plain.noiseless["value_2"], other.noiseless["value_2"])
    assert torch.equal(plain.noiseless["label_1"], other.noiseless["label_1"])


def test_every_row_carries_every_label():
    data = noisy_tasks(0, rows=9, noise=[1.0, 1.0], temperature=[1.0], classes=5).data
    assert [task.name for task in data.tasks] == ["value_1", "value_2", "label_1"]
    assert [task.outputs for task in data.tasks] == [1, 1, 5]
    assert all(bool(marks.all()) for marks in data.labelled.values())


def test_a_linear_world_is_linear():
    world = noisy_tasks(0, rows=100, noise=[0.0], linear=True, inputs=5)
    solution = torch.linalg.lstsq(world.data.inputs, world.data.targets["value_1"]).solution
    torch.testing.assert_close(world.data.inputs @ solution, world.noiseless["value_1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": [0.5], "scale": [1.0, 2.0]}, "1 regressions with 2 scales"),
        ({"noise": [-0.1]}, "noise must be a number at least 0"),
        ({"noise": [math.nan]}, "noise must be a number"),
        ({"noise": [0.5], "scale": [0.0]}, "scale must be a number above 0"),
        ({"temperature": [0.0]}, "temperature must be a number above 0"),
        ({"temperature": [math.inf]}, "temperature must be a number above 0"),
        ({"temperature": [1.0], "classes": 1}, "at least 2 classes"),
        ({}, "tasks must be at least 1"),
    ],
)
def test_impossible_worlds_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        noisy_tasks(0, **{"rows": 5, **arguments})
