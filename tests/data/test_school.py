"""School on a small file written here, and against the published counts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.preprocessing import StandardScaler

from mtlbook.data import school
from mtlbook.data.multi_task_data import Holdout

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
    data = school.load()
    assert [task.name for task in data.tasks] == ["school_001", "school_002", "school_003"]
    assert data.inputs.dtype == torch.float64
    assert np.array_equal(data.inputs.numpy(), inputs)
    owner = np.repeat([0, 1, 2], SIZES)
    for number, task in enumerate(data.tasks):
        assert np.array_equal(data.labelled[task.name].numpy(), owner == number)
        assert np.array_equal(
            data.targets[task.name].numpy()[owner == number], scores[owner == number]
        )


def test_scaling_is_over_the_training_students_of_all_schools_and_spares_constant_and_codes(small):
    inputs, scores = small
    data, split = school.load(codes=True), Holdout(train=2, validation=0, test=1)
    rows = split.draw(data, 0).train.numpy()
    assert len(rows) == 6
    new = school.scaled(data, split, 0)
    scaler = StandardScaler().fit(inputs[rows][:, :-1])
    expected = np.asarray(scaler.transform(inputs[:, :-1]))
    varied = inputs[rows][:, :-1].std(axis=0) > 0
    np.testing.assert_allclose(new.inputs[:, :27].numpy()[:, varied], expected[:, varied])
    assert torch.equal(new.inputs[:, 27:], data.inputs[:, 27:])
    level, spread = scores[rows].mean(), scores[rows].std()
    for task in data.tasks:
        own = data.labelled[task.name].numpy()
        found = new.targets[task.name].numpy()[own]
        np.testing.assert_allclose(found, (scores[own] - level) / spread)


def test_codes_tell_the_schools_apart(small):
    data = school.load(codes=True)
    owner = torch.repeat_interleave(torch.tensor(SIZES))
    assert torch.equal(data.inputs[:, 28:].argmax(1), owner)
    assert data.inputs.shape == (13, 31)


def test_school_is_as_published(downloaded: Callable[[str], None]):
    downloaded("school")
    data = school.load()
    sizes = [int(marks.sum()) for marks in data.labelled.values()]
    assert len(data.tasks) == 139
    assert data.inputs.shape == (15_362, 28)
    assert (min(sizes), max(sizes)) == (22, 251)
    scores = torch.cat([data.targets[task.name][data.labelled[task.name]] for task in data.tasks])
    assert (float(scores.min()), float(scores.max())) == (1, 70)
