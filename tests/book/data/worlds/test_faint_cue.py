"""A faint cue beside a pattern: what agrees with what, and what is where."""

import pytest
import torch

from mtlbook.book.data.worlds.faint_cue import LOOKS, faint_cue, regions
from mtlbook.errors import UsageError

ROWS = 20_000


@pytest.fixture(scope="module")
def made():
    return faint_cue(3, rows=ROWS)


def share(marks: torch.Tensor) -> float:
    return float(marks.double().mean())


def test_pattern_and_cue_agree_with_the_label_independently_given_it(made):
    targets = made.data.targets
    label = targets["label"].flatten()
    bit = targets["cue"] % 2
    right = {
        "pattern": targets["pattern"].flatten() == label,
        "cue": bit == label,
        "other cue": targets["other_cue"] % 2 == label,
    }
    found = {name: share(marks) for name, marks in right.items()}
    assert found == pytest.approx({"pattern": 0.85, "cue": 0.98, "other cue": 0.5}, abs=0.012)
    for value in (0, 1):
        own = label == value
        both = share((right["pattern"] & right["cue"])[own])
        assert both == pytest.approx(
            share(right["pattern"][own]) * share(right["cue"][own]), abs=0.005
        )
    assert torch.bincount(targets["cue"]) / ROWS == pytest.approx(1 / LOOKS, abs=0.01)
    assert torch.bincount(targets["other_cue"]) / ROWS == pytest.approx(1 / LOOKS, abs=0.01)


def test_pixels_are_pattern_cues_and_noise(made):
    quiet = faint_cue(3, rows=200, noise=0.0)
    x, targets = quiet.data.inputs, quiet.data.targets
    areas = regions()
    sign = 2 * targets["pattern"] - 1
    pattern = sign * x[:, areas["pattern"]]
    assert torch.equal(pattern, pattern[:1].expand(200, 64))
    assert torch.equal(pattern.abs(), torch.ones_like(pattern))
    shapes = quiet.features["cue"][areas["cue"]].T
    assert torch.allclose(shapes @ shapes.T, 16 * torch.eye(4, dtype=torch.float64))
    looks = torch.cat([shapes, -shapes])
    assert torch.allclose(x[:, areas["cue"]], 0.6 * looks[targets["cue"]])
    noise = made.data.inputs[:200] - x
    assert float(noise.std()) == pytest.approx(0.5, abs=0.01)
    assert int(sum(area.sum() for area in areas.values())) == x.shape[1] == 96
    assert torch.equal(quiet.relevant["label"], areas["pattern"] | areas["cue"])


def test_on_average_the_cue_is_nothing_for_either_label(made):
    x = made.data.inputs[:, regions()["cue"]]
    label = made.data.targets["label"].flatten().bool()
    assert float((x[label].mean(0) - x[~label].mean(0)).abs().max()) < 0.06


def test_decoupled_images_differ_in_the_pattern_alone(made):
    other = faint_cue(3, rows=ROWS, decoupled=True)
    areas, label = regions(), made.data.targets["label"].flatten()
    rest = ~areas["pattern"]
    assert torch.equal(made.data.inputs[:, rest], other.data.inputs[:, rest])
    for task in ("label", "cue", "other_cue"):
        assert torch.equal(made.data.targets[task], other.data.targets[task])
    bit = other.data.targets["pattern"].flatten()
    assert share(bit == label) == pytest.approx(0.5, abs=0.012)
    assert share(bit == made.data.targets["pattern"].flatten()) == pytest.approx(0.5, abs=0.012)


def test_few_rows_are_the_first_of_more_and_amplitude_0_hides_the_cue(made):
    few = faint_cue(3, rows=7)
    assert torch.equal(few.data.inputs, made.data.inputs[:7])
    assert torch.equal(few.data.targets["cue"], made.data.targets["cue"][:7])
    hidden = faint_cue(3, rows=50, cue=0.0, noise=0.0).data.inputs
    assert not hidden[:, ~regions()["pattern"]].any()


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"rows": 0}, "rows must be at least 1"),
        ({"rows": 5, "pattern": 1.5}, "pattern is a share"),
        ({"rows": 5, "reliability": -0.1}, "reliability is a share"),
        ({"rows": 5, "cue": -1.0}, "amplitude of at least 0"),
        ({"rows": 5, "noise": float("inf")}, "noise"),
    ],
)
def test_impossible_dials_are_refused(dials, message):
    with pytest.raises(UsageError, match=message):
        faint_cue(0, **dials)
