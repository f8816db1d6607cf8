"""The shared task of WNUT 2017: rare and emerging entities in noisy text of the web.

Derczynski, Nichols, van Erp and Limsopatham (2017): six types of entities in the BIO scheme. The
sentences have no parts of speech.
"""

from collections.abc import Sequence

from mtlbook.data import registry
from mtlbook.data.sentences import Sentence, blocks
from mtlbook.errors import UsageError

FILES = {
    "train": "wnut17train.conll",
    "dev": "emerging.dev.conll",
    "test": "emerging.test.annotated",
}


def load(part: str = "train") -> list[Sentence]:
    """The sentences of a part, downloaded at the first call; the tags are `entity` (BIO).

    Arguments:
        part: `train`, `dev` or `test`.

    Raises:
        UsageError: for another part.
    """
    if part not in FILES:
        raise UsageError(f"There is no part {part!r}: choose one of {', '.join(FILES)}.")
    return [sentence(lines) for lines in blocks(registry.fetch("wnut17") / FILES[part])]


def sentence(lines: Sequence[str]) -> Sentence:
    r"""A sentence from its lines, each a word and its entity's tag.

    Example:
        >>> sentence(["Empire\tB-location", "State\tI-location"]).words
        ('Empire', 'State')
    """
    rows = [line.split("\t") for line in lines]
    for row in rows:
        if len(row) != 2:
            raise UsageError(f"A line of WNUT 2017 has 2 columns, and {row} has {len(row)}.")
    words, entity = zip(*rows, strict=True)
    return Sentence(words, {"entity": entity})
