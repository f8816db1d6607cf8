"""USPS: 7,291 + 2,007 handwritten digits of 16 × 16 pixels from envelopes (Hull, 1994)."""

from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.data.images import LabelledImages
from mtlbook.data.registry import fetch


def load() -> LabelledImages:
    """The images and labels of USPS, downloaded at the first call."""
    file = fetch("usps") / "usps.h5"
    train_images, train_labels = read_part(file, "train")
    test_images, test_labels = read_part(file, "test")
    return LabelledImages(train_images, train_labels, test_images, test_labels)


def read_part(
    file: Path, part: str
) -> tuple[Float[Tensor, "examples 16 16"], Int[Tensor, " examples"]]:
    """The images and labels of the group `train` or `test` of the HDF5 file."""
    with h5py.File(file) as content:
        pixels = np.asarray(content[f"{part}/data"], dtype=np.float32)
        labels = np.asarray(content[f"{part}/target"], dtype=np.int64)
    return torch.from_numpy(pixels).view(-1, 16, 16), torch.from_numpy(labels)
