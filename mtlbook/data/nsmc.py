"""NSMC: reviews of films in Korean, each positive or negative.

The Naver sentiment movie corpus has 200,000 reviews of at most 140 characters. A review with a
rating of 1 to 4 is negative, with 9 or 10 positive; those between were left out. The registry's
file is an excerpt of 25,000 reviews.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlbook.data import registry
from mtlbook.errors import UsageError

FILE = "ratings_valid.txt"


@dataclass(frozen=True)
class Review:
    """A review.

    Attributes:
        text: as it was written.
        positive: whether it praises the film.
    """

    text: str
    positive: bool


def load() -> list[Review]:
    """The reviews, downloaded at the first call."""
    text = (registry.fetch("nsmc") / FILE).read_text(encoding="utf-8")
    return parsed(text.split("\n")[1:])


def parsed(lines: Sequence[str]) -> list[Review]:
    r"""The reviews of lines `id`, `document` and `label`; lines without text are left out.

    Raises:
        UsageError: for a line that is no review.

    Example:
        >>> parsed(["1\t굳 ㅋ\t1", "2\t\t0"])
        [Review(text='굳 ㅋ', positive=True)]
    """
    rows = [line.split("\t") for line in lines if line]
    for row in rows:
        if len(row) != 3 or row[2] not in ("0", "1"):
            raise UsageError(f"A line of NSMC is an id, a text and 0 or 1, and {row} is not.")
    return [Review(text.strip(), label == "1") for _, text, label in rows if text.strip()]
