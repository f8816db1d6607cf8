"""Two moons: against scikit-learn's, and the dials against what they promise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree
from sklearn.datasets import make_moons

from mtlbook.book.data.two_moons import turned, two_moons
from mtlbook.errors import UsageError


def test_the_source_lies_on_scikit_learns_moons():
    """Up to a shift of the origin; noise of standard deviation 0.1 in each direction."""
    data = two_moons(0, rows=2000)
    source = data.labelled["moon"]
    curves, labels = make_moons(4000, noise=None)
    for moon in (0, 1):
        own = source & (data.targets["moon"] == moon)
        curve = KDTree(curves[labels == moon] - np.array([0.5, 0.25]))
        distance, _ = curve.query(data.inputs[own].numpy())
        # Across the curve one direction of the noise is left.
        assert np.sqrt(np.mean(distance**2)) == pytest.approx(0.1, rel=0.1)


def test_the_moons_are_each_other_turned_by_half_a_turn():
    data = two_moons(0, shift=0.0, rows=4000)
    points, labels = (of["moon"] for of in (data.labelled, data.targets))
    centres = [data.inputs[points & (labels == moon)].mean(0) for moon in (0, 1)]
    torch.testing.assert_close(centres[0], -centres[1], atol=0.1, rtol=0)


def test_a_quarter_turn_takes_right_to_up():
    point = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(turned(point, math.pi / 2), expected)


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])
def test_the_shift_turns_the_target_and_nothing_else(shift: float):
    plain, data = two_moons(3, shift=0.0), two_moons(3, shift=shift)
    source = data.labelled["moon"]
    assert torch.equal(plain.inputs[source], data.inputs[source])
    targets = [own.inputs[~source] for own in (plain, data)]
    angles = [torch.atan2(points[:, 1], points[:, 0]) for points in targets]
    difference = torch.remainder(angles[1] - angles[0], 2 * math.pi)
    wanted = torch.full_like(difference, math.radians(35 * shift))
    torch.testing.assert_close(torch.remainder(difference + 1, 2 * math.pi), wanted + 1)


@settings(max_examples=20)
@given(rows=st.integers(2, 400), label_shift=st.floats(0, 1))
def test_the_proportions_follow_the_dial(rows: int, label_shift: float):
    data = two_moons(0, label_shift=label_shift, rows=rows)
    source, target = data.labelled["moon"], data.labelled["target_moon"]
    assert int(source.sum()) == int(target.sum()) == rows
    assert abs(int((data.targets["moon"][source] == 0).sum()) - rows / 2) <= 0.5
    wanted = rows * (1 - label_shift) / 2
    assert abs(int((data.targets["target_moon"][target] == 0).sum()) - wanted) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": 1.5}, "shift must lie between 0 and 1, not at 1.5"),
        ({"label_shift": -0.1}, "label_shift must lie between 0 and 1, not at -0.1"),
        ({"rows": 1}, "rows must be at least 2"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, message: str):
    with pytest.raises(UsageError, match=message):
        two_moons(0, **arguments)
