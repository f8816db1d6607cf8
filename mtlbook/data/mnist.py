"""MNIST: 60,000 + 10,000 handwritten digits of 28 × 28 pixels (LeCun et al., 1998)."""

import gzip
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mtlbook.data.images import LabelledImages
from mtlbook.data.registry import fetch
from mtlbook.errors import UsageError

_UNSIGNED_BYTE = 0x08


def load() -> LabelledImages:
    """The images and labels of MNIST, downloaded at the first call."""
    folder = fetch("mnist")
    return LabelledImages(
        train_images=read_idx(folder / "train-images-idx3-ubyte.gz").float() / 255,
        train_labels=read_idx(folder / "train-labels-idx1-ubyte.gz").long(),
        test_images=read_idx(folder / "t10k-images-idx3-ubyte.gz").float() / 255,
        test_labels=read_idx(folder / "t10k-labels-idx1-ubyte.gz").long(),
    )


def read_idx(file: Path) -> UInt8[Tensor, "..."]:
    """An array of bytes in the IDX format, compressed with gzip.

    The format is two zero bytes, the element type, the number of axes, the size of each axis as a
    big-endian 32-bit number, and then the elements in row-major order.
    """
    content = gzip.decompress(file.read_bytes())
    if content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise UsageError(f"{file} is not an IDX file of bytes: fetch it again.")
    axes = content[3]
    start = 4 + 4 * axes
    shape = np.frombuffer(content[4:start], ">i4").tolist()
    elements = np.frombuffer(content, np.uint8, offset=start)
    if len(elements) != np.prod(shape):
        raise UsageError(
            f"{file} holds {len(elements)} elements instead of {shape}: fetch it again."
        )
    # A copy, since the bytes behind `frombuffer` can't be written.
    return torch.from_numpy(elements.reshape(shape).copy())
