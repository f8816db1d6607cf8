"""The HDF5 reader on a file written here, and USPS against its published counts."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mtlbook.book.data import usps


def test_load_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = np.random.default_rng(0).random((5, 256), dtype=np.float32)
    with h5py.File(tmp_path / "usps.h5", "w") as content:
        for part, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
            content[f"{part}/data"] = pixels[rows]
            content[f"{part}/target"] = np.arange(5, dtype=np.int32)[rows]
    monkeypatch.setattr(usps, "fetch", lambda name: tmp_path)
    data = usps.load()
    assert np.array_equal(data.train_images.numpy(), pixels[:3].reshape(3, 16, 16))
    assert np.array_equal(data.test_images.numpy(), pixels[3:].reshape(2, 16, 16))
    assert data.train_labels.tolist() == [0, 1, 2]
    assert data.test_labels.tolist() == [3, 4]


def test_usps_is_as_published(downloaded: Callable[[str], None]):
    downloaded("usps")
    data = usps.load()
    assert data.train_images.shape == (7291, 16, 16)
    assert data.test_images.shape == (2007, 16, 16)
    counts = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert data.train_labels.bincount().tolist() == counts
    assert 0 <= float(data.train_images.min()) < float(data.train_images.max()) <= 1
