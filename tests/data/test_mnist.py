"""The IDX reader on files written here, and MNIST against its published counts."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlbook.data import mnist
from mtlbook.errors import UsageError


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """An array of bytes in the IDX format."""
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_reads_what_was_written(tmp_path: Path, shape: tuple[int, ...]):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "x.gz").write_bytes(idx(array))
    assert np.array_equal(mnist.read_idx(tmp_path / "x.gz").numpy(), array)


def test_load_scales_pixels_and_keeps_the_parts_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for part, rows in (("train", 3), ("t10k", 2)):
        images = np.full((rows, 28, 28), 51 * rows, np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(rows, dtype="u1")))
    monkeypatch.setattr(mnist, "fetch", lambda name: tmp_path)
    data = mnist.load()
    torch.testing.assert_close(data.train_images, torch.full((3, 28, 28), 0.6))
    torch.testing.assert_close(data.test_images, torch.full((2, 28, 28), 0.4))
    assert data.train_labels.tolist() == [0, 1, 2]
    assert data.test_labels.tolist() == [0, 1]


def test_other_elements_are_refused(tmp_path: Path):
    (tmp_path / "x.gz").write_bytes(idx(np.zeros(3, np.uint8), kind=0x0D))
    with pytest.raises(UsageError, match="not an IDX file of bytes"):
        mnist.read_idx(tmp_path / "x.gz")


def test_a_wrong_size_is_refused(tmp_path: Path):
    content = gzip.decompress(idx(np.zeros((2, 3), np.uint8)))
    (tmp_path / "x.gz").write_bytes(gzip.compress(content[:-1]))
    with pytest.raises(UsageError, match=r"holds 5 elements instead of \[2, 3\]"):
        mnist.read_idx(tmp_path / "x.gz")


def test_mnist_is_as_published(downloaded: Callable[[str], None]):
    downloaded("mnist")
    data = mnist.load()
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.test_images.shape == (10_000, 28, 28)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train_labels.bincount().tolist() == counts
    # The constants with which MNIST is usually normalised.
    assert float(data.train_images.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(data.train_images.std()) == pytest.approx(0.3081, abs=5e-5)
