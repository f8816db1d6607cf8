"""The Omniglot reader on images written here, and the data set against its published counts."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from mtlbook.data import omniglot
from mtlbook.errors import UsageError
from tests.equal import exactly


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(ink: np.ndarray, *, depth: int = 1) -> bytes:
    """A PNG of one bit, its rows in turn with each of the five filters, by the definition."""
    packed = np.packbits(1 - ink.astype(np.uint8), axis=1).astype(int)
    above = np.zeros_like(packed[0])
    rows = b""
    for number, own in enumerate(packed):
        kind = number % 5
        left = np.concatenate([[0], own[:-1]])
        corner = np.concatenate([[0], above[:-1]])
        paeth = [
            min((a, b, c), key=lambda v, g=a + b - c: abs(g - v))
            for a, b, c in zip(left, above, corner, strict=True)
        ]
        predicted = [np.zeros_like(own), left, above, (left + above) // 2, np.array(paeth)][kind]
        rows += bytes([kind, *((own - predicted) % 256).tolist()])
        above = own
    height, width = ink.shape
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("shape", [(12, 12), (11, 19), (5, 8)])
def test_reads_what_was_written(shape: tuple[int, int]):
    ink = np.random.default_rng(0).integers(0, 2, shape)
    exactly(omniglot.read_png(png(ink)), torch.from_numpy(ink).float())


def test_what_is_none_of_its_images_is_refused():
    with pytest.raises(UsageError, match="not a PNG"):
        omniglot.read_png(b"GIF89a")
    with pytest.raises(UsageError, match="8 bits"):
        omniglot.read_png(png(np.ones((8, 8)), depth=8))


def archive(file: Path) -> None:
    with ZipFile(file, "w") as written:
        for alphabet, characters in (("Greek", 2), ("Japanese_(katakana)", 1)):
            for character in range(characters):
                for drawing in range(3):
                    ink = np.full((6, 6), (character + drawing) % 2)
                    name = f"set/{alphabet}/character{character + 1:02}/{drawing}.png"
                    written.writestr(name, png(ink))
        written.writestr("set/Greek/notes.txt", "")


def test_alphabets_characters_and_drawings(tmp_path: Path):
    archive(tmp_path / "a.zip")
    found = omniglot.read(tmp_path / "a.zip", side=2)
    assert list(found) == ["greek", "japanese_katakana"]
    assert found["greek"].images.shape == (6, 2, 2)
    assert found["greek"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found["greek"].images[:, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert found["japanese_katakana"].characters == 1
    with pytest.raises(UsageError, match="must divide"):
        omniglot.read(tmp_path / "a.zip", side=4)


def test_omniglot_is_as_published(downloaded: Callable[[str], None]):
    downloaded("omniglot")
    found = omniglot.load(side=21)
    assert len(found) == 8
    assert sum(own.characters for own in found.values()) == 242
    assert sum(len(own.images) for own in found.values()) == 4840
    for own in found.values():
        assert own.labels.bincount().tolist() == [20] * own.characters
        assert own.images.shape[1:] == (21, 21)
        assert 0.01 < float(own.images.mean()) < 0.15
