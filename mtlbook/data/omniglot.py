"""Omniglot: characters of eight alphabets, each drawn by 20 people (Lake et al., 2015).

The two published "minimal" sets of five alphabets each, which have two in common.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from mtlbook.data.registry import fetch
from mtlbook.errors import UsageError

FILES = ("images_background_small1.zip", "images_background_small2.zip")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The drawings of an alphabet, ink 1 on 0, and which of its characters each shows."""

    images: Float[Tensor, "drawings height width"]
    labels: Int[Tensor, " drawings"]

    @property
    def characters(self) -> int:
        """How many characters the alphabet has."""
        return int(self.labels.max()) + 1


def load(side: int = 105) -> dict[str, Alphabet]:
    """The alphabets by name, downloaded at the first call.

    Arguments:
        side: of the images; each pixel is the mean of a square of the original's 105 × 105, so
            that it must divide 105.

    Raises:
        UsageError: for another side.
    """
    folder = fetch("omniglot")
    found: dict[str, Alphabet] = {}
    for file in FILES:
        found |= read(folder / file, side)
    return dict(sorted(found.items()))


def read(file: Path, side: int = 105) -> dict[str, Alphabet]:
    """The alphabets of one archive: `<set>/<alphabet>/<character>/<drawing>.png`."""
    drawings: dict[str, dict[str, list[Tensor]]] = {}
    with ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith(".png"):
                continue
            _, alphabet, character, _ = name.split("/")
            image = _smaller(read_png(archive.read(name)), side)
            own = drawings.setdefault(_identifier(alphabet), {})
            own.setdefault(character, []).append(image)
    return {
        alphabet: Alphabet(
            torch.stack([image for images in own.values() for image in images]),
            torch.repeat_interleave(torch.tensor([len(images) for images in own.values()])),
        )
        for alphabet, own in drawings.items()
    }


def read_png(content: bytes) -> Float[Tensor, "height width"]:
    """A PNG of one bit a pixel, as Omniglot's are: 1 where there is ink (black).

    Raises:
        UsageError: for anything else.
    """
    stream, parts, header = io.BytesIO(content), [], b""
    if stream.read(8) != _SIGNATURE:
        raise UsageError("This is not a PNG image: fetch the data set again.")
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        body = stream.read(length)
        stream.read(4)  # a checksum; the archive has its own
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            parts.append(body)
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", header)
    if (depth, colour, interlaced) != (1, 0, 0):
        raise UsageError(
            f"A PNG of {depth} bits and colour type {colour} is none of Omniglot's, which have one "
            "bit of grey: give the published archive."
        )
    stride = (width + 7) // 8
    rows = np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8).reshape(height, 1 + stride)
    bits = np.unpackbits(_unfiltered(rows), axis=1)[:, :width]
    return torch.from_numpy(1.0 - bits).float()


def _unfiltered(rows: UInt8[np.ndarray, "rows bytes"]) -> UInt8[np.ndarray, "rows stride"]:
    """The bytes of each row, whose first byte says from which neighbours they were predicted."""
    above = [0] * rows.shape[1]  # one more than a row has: what is left of the first byte is 0
    found = []
    for kind, *values in rows.tolist():
        row = [0]
        for value, up, corner in zip(values, above[1:], above, strict=False):
            left = row[-1]
            # The last is Paeth's: the neighbour nearest to left + up − corner.
            if kind == 4:
                guess = left + up - corner
                predicted = min((left, up, corner), key=lambda own, at=guess: abs(at - own))
            else:
                predicted = (0, left, up, (left + up) // 2)[kind]
            row.append((value + predicted) % 256)
        found.append(row[1:])
        above = row
    return np.array(found, np.uint8)


def _smaller(image: Float[Tensor, "height width"], side: int) -> Float[Tensor, "side side"]:
    if side < 1 or len(image) % side:
        raise UsageError(f"side must divide the images' own {len(image)} pixels, not be {side}.")
    return F.avg_pool2d(image[None], len(image) // side)[0]


def _identifier(name: str) -> str:
    """An alphabet's name as a task's: `Japanese_(katakana)` is no identifier."""
    return "".join(letter for letter in name if letter.isalnum() or letter == "_").lower()
