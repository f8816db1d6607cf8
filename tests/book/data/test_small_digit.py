"""A small digit beside a large one: what agrees with what, and parts without common digits."""

from itertools import pairwise

import pytest
import torch

from mtlbook.book.data import small_digit as module
from mtlbook.book.data.small_digit import DIGITS_SIDE, regions, small_digit, small_digit_mnist
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.errors import UsageError
from tests.book.studies.stand_ins import digits

SPLIT = Consecutive(train=4000, validation=1000, test=2000)
CUTS = [0, 4000, 5000, 7000]


@pytest.fixture(scope="module")
def made():
    return small_digit(1, SPLIT)


def share(marks: torch.Tensor) -> float:
    return float(marks.double().mean())


def test_what_agrees_with_the_label(made):
    label = made.targets["label"].flatten()
    assert share(made.targets["pattern"].flatten() == label) == pytest.approx(0.85, abs=0.02)
    assert share(made.targets["cue"] % 2 == label) == pytest.approx(0.98, abs=0.01)
    assert share(made.targets["other_cue"] % 2 == label) == pytest.approx(0.5, abs=0.03)
    assert set(made.targets["cue"].tolist()) == set(range(6))


def test_what_is_where(made):
    areas = regions(DIGITS_SIDE)
    assert [int(area.sum()) for area in areas.values()] == [144, 36, 36]
    assert bool(torch.stack(list(areas.values())).sum(0).eq(1).all())
    assert made.inputs.shape == (7000, 216)
    dark = small_digit(1, SPLIT, cue=0.6)
    assert torch.equal(dark.inputs[:, areas["pattern"]], made.inputs[:, areas["pattern"]])
    assert torch.allclose(dark.inputs[:, areas["cue"]], 2 * made.inputs[:, areas["cue"]])
    blank = small_digit(1, SPLIT, cue=0.0).inputs
    assert not blank[:, areas["cue"] | areas["other_cue"]].any()


@pytest.mark.parametrize("name", ["pattern", "cue", "other_cue"])
def test_no_digit_is_in_two_parts(made, name):
    own = made.inputs[:, regions(DIGITS_SIDE)[name]]
    parts = [{tuple(row) for row in own[first:last].tolist()} for first, last in pairwise(CUTS)]
    for number, part in enumerate(parts):
        for other in parts[:number]:
            assert not part & other


def test_decoupled_images_differ_in_the_large_digit_alone(made):
    other = small_digit(1, SPLIT, decoupled=True)
    rest = ~regions(DIGITS_SIDE)["pattern"]
    assert torch.equal(made.inputs[:, rest], other.inputs[:, rest])
    assert torch.equal(made.targets["label"], other.targets["label"])
    assert share(other.targets["pattern"] == made.targets["label"]) == pytest.approx(0.5, abs=0.02)


def test_mnist_is_composed_alike(monkeypatch):
    monkeypatch.setattr(module.mnist, "load", lambda: digits(train=300, test=100, side=28))
    data = small_digit_mnist(0, Consecutive(train=40, validation=20, test=30))
    assert data.inputs.shape == (90, 294)
    assert data.inputs.dtype == torch.float64
    label = data.targets["label"].flatten()
    assert share(data.targets["cue"] % 2 == label) > 0.9


def test_mistakes_are_told():
    with pytest.raises(UsageError, match="amplitude of at least 0"):
        small_digit(0, SPLIT, cue=-1.0)
    with pytest.raises(UsageError, match="pattern is a share"):
        small_digit(0, SPLIT, pattern=2.0)
    with pytest.raises(UsageError, match="some kind is missing"):
        small_digit(0, Consecutive(train=5000, validation=2, test=1000))
