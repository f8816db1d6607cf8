"""KOTE: comments from Korean websites, each with some of 44 emotions.

Jeon, Lee and Kim (2022): 50,000 comments of twelve platforms, from news and shops to films, each
labelled by five people. The registry has the published validation and test parts, 5,000 comments
each. The emotions' names are the data set's own; the polarity is ours, see `polarity`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlbook.data import registry
from mtlbook.errors import UsageError

FILES = {"validation": "val.tsv", "test": "test.tsv"}
EMOTIONS = (
    *("불평/불만", "환영/호의", "감동/감탄", "지긋지긋", "고마움", "슬픔", "화남/분노", "존경"),
    *("기대감", "우쭐댐/무시함", "안타까움/실망", "비장함", "의심/불신", "뿌듯함", "편안/쾌적"),
    *("신기함/관심", "아껴주는", "부끄러움", "공포/무서움", "절망", "한심함", "역겨움/징그러움"),
    *("짜증", "어이없음", "없음", "패배/자기혐오", "귀찮음", "힘듦/지침", "즐거움/신남", "깨달음"),
    *("죄책감", "증오/혐오", "흐뭇함(귀여움/예쁨)", "당황/난처", "경악", "부담/안_내킴", "서러움"),
    *("재미없음", "불쌍함/연민", "놀람", "행복", "불안/걱정", "기쁨", "안심/신뢰"),
)
# Welcome, admiration, gratitude, respect, expectation, pride, comfort, care, joy, delight,
# happiness, gladness and relief.
POSITIVE = frozenset({1, 2, 4, 7, 8, 13, 14, 16, 28, 32, 40, 42, 43})
# Resolve, interest, none, realisation, compassion and surprise: they go with either polarity.
NEITHER = frozenset({11, 15, 24, 29, 38, 39})
NEGATIVE = frozenset(range(len(EMOTIONS))) - POSITIVE - NEITHER


@dataclass(frozen=True)
class Comment:
    """A comment.

    Attributes:
        text: as it was written.
        emotions: the numbers of its `EMOTIONS`.
    """

    text: str
    emotions: frozenset[int]

    @property
    def polarity(self) -> bool | None:
        """Whether it is positive: see `polarity`."""
        return polarity(self.emotions)


def polarity(emotions: frozenset[int], least: float = 0.8) -> bool | None:
    """Whether a comment is positive, which KOTE itself does not say.

    Of a comment's positive and negative emotions at least four in five must be of one side; the
    others are mixed, and None, as are comments with neither.

    Arguments:
        emotions: their numbers.
        least: the share that one side must have.

    Example:
        >>> [polarity(frozenset(own)) for own in ({2, 28, 42}, {0, 22}, {24})]
        [True, False, None]
    """
    positive, negative = len(emotions & POSITIVE), len(emotions & NEGATIVE)
    most = max(positive, negative)
    if most == 0 or most < least * (positive + negative):
        return None
    return positive > negative


def load(part: str = "test") -> list[Comment]:
    """The comments of a part, downloaded at the first call.

    Arguments:
        part: `validation` or `test`.

    Raises:
        UsageError: for another part.
    """
    if part not in FILES:
        raise UsageError(f"There is no part {part!r}: choose one of {', '.join(FILES)}.")
    text = (registry.fetch("kote") / FILES[part]).read_text(encoding="utf-8")
    return parsed(text.split("\n"))


def parsed(lines: Sequence[str]) -> list[Comment]:
    r"""The comments of lines `id`, `text` and `emotions`.

    Raises:
        UsageError: for a line that is no comment, or an emotion that there is not.

    Example:
        >>> parsed(["7\t최고의영화..\t2,28"])[0].polarity
        True
    """
    found = []
    for line in filter(None, lines):
        row = line.split("\t")
        numbers = row[2].split(",") if len(row) == 3 else []
        known = [number for number in numbers if number.isdigit() and int(number) < len(EMOTIONS)]
        if len(row) != 3 or known != numbers:
            raise UsageError(
                f"A line of KOTE is an id, a text and numbers of emotions from 0 to "
                f"{len(EMOTIONS) - 1}, and {row} is not."
            )
        found.append(Comment(row[1].strip(), frozenset(map(int, numbers))))
    return found
