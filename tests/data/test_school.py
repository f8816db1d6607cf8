"""School on a small file written here, and against the published counts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from mtlbook.data import school

SIZES = (4, 6, 3)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and scores of a file with three schools."""
    draw = np.random.default_rng(0)
    inputs = draw.integers(0, 5, (sum(SIZES), 28), dtype=np.uint8)
    inputs[:, -1] = 1
    scores = draw.integers(1, 71, (sum(SIZES), 1), dtype=np.uint8)
    cells = {"X": np.empty((1, 3), object), "Y": np.empty((1, 3), object)}
    for number, rows in enumerate(np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])):
        cells["X"][0, number], cells["Y"][0, number] = inputs[rows], scores[rows]
    savemat(tmp_path / "school.mat", cells)
    monkeypatch.setattr(school, "fetch", lambda name: tmp_path)
    return inputs, scores


def test_each_school_is_a_data_set_of_its_own(small):
    inputs, scores = small
    data = school.load(standardise=False)
    assert [task.name for task in data.tasks] == ["school_001", "school_002", "school_003"]
    assert data.inputs.dtype == torch.float64
    assert np.array_equal(data.inputs.numpy(), inputs)
    owner = np.repeat([0, 1, 2], SIZES)
    for number, task in enumerate(data.tasks):
        assert np.array_equal(data.labelled[task.name].numpy(), owner == number)
        assert np.array_equal(
            data.targets[task.name].numpy()[owner == number], scores[owner == number]
        )


def test_standardising_is_over_all_schools_and_spares_the_constant(small):
    data = school.load()
    scores = torch.cat([data.targets[task.name][data.labelled[task.name]] for task in data.tasks])
    zero, one = torch.zeros(28, dtype=torch.float64), torch.ones(28, dtype=torch.float64)
    zero[-1], one[-1] = 1, 0
    torch.testing.assert_close(data.inputs.mean(0), zero)
    torch.testing.assert_close(data.inputs.std(0, correction=0), one)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-12)
    assert float(scores.std(correction=0)) == pytest.approx(1)
    # The schools themselves keep their different means.
    assert abs(float(scores[: SIZES[0]].mean())) > 1e-3


def test_codes_tell_the_schools_apart(small):
    data = school.load(codes=True)
    owner = torch.repeat_interleave(torch.tensor(SIZES))
    assert torch.equal(data.inputs[:, 28:].argmax(1), owner)
    assert data.inputs.shape == (13, 31)


def test_school_is_as_published(downloaded: Callable[[str], None]):
    downloaded("school")
    data = school.load(standardise=False)
    sizes = [int(marks.sum()) for marks in data.labelled.values()]
    assert len(data.tasks) == 139
    assert data.inputs.shape == (15_362, 28)
    assert (min(sizes), max(sizes)) == (22, 251)
    scores = torch.cat([data.targets[task.name][data.labelled[task.name]] for task in data.tasks])
    assert (float(scores.min()), float(scores.max())) == (1, 70)
