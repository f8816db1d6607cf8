"""The shared task of CoNLL-2000, text chunking: sentences of the Wall Street Journal.

Tjong Kim Sang and Buchholz (2000): sections 15 to 18 of the Penn Treebank for training, section 20
for testing. The chunks were derived from the treebank's trees; the parts of speech are **not** the
treebank's but the output of Brill's tagger, as the data's own README says.
"""

from collections.abc import Sequence
from zipfile import ZipFile

from mtlbook.data import registry
from mtlbook.data.sentences import Sentence, blocks_of
from mtlbook.errors import UsageError

PARTS = ("train", "test")


def load(part: str = "train") -> list[Sentence]:
    """The sentences of a part, downloaded at the first call; the tags are `pos` and `chunk` (BIO).

    Arguments:
        part: `train` or `test`.

    Raises:
        UsageError: for another part.
    """
    if part not in PARTS:
        raise UsageError(f"There is no part {part!r}: choose one of {', '.join(PARTS)}.")
    with ZipFile(registry.fetch("conll2000") / "conll2000.zip") as archive:
        text = archive.read(f"conll2000/{part}.txt").decode()
    return [sentence(lines) for lines in blocks_of(text)]


def sentence(lines: Sequence[str]) -> Sentence:
    """A sentence from its lines, each a word, its part of speech and its chunk's tag.

    Example:
        >>> sentence(["He PRP B-NP", "reckons VBZ B-VP"]).tags["chunk"]
        ('B-NP', 'B-VP')
    """
    rows = [line.split() for line in lines]
    for row in rows:
        if len(row) != 3:
            raise UsageError(f"A line of CoNLL-2000 has 3 columns, and {row} has {len(row)}.")
    words, pos, chunk = zip(*rows, strict=True)
    return Sentence(words, {"pos": pos, "chunk": chunk})
