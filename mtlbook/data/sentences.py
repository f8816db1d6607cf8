"""Tagged sentences: words with a tag of each task, and their way into padded tensors.

Words enter by numbers that need no vocabulary: a bucket of the word, one of its last two letters,
and its shape. So no word of a test sentence is known from counting it, and unknown words are told
apart by their ending and shape.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.metrics import IGNORED
from mtlbook.tasks import Task

WORD_BUCKETS = 1000
ENDING_BUCKETS = 200
SHAPES = ("lower", "capital", "upper", "number", "mark", "other")
# Numbers from 1 (0 pads), the three columns behind each other in one table.
VOCABULARY = 1 + WORD_BUCKETS + ENDING_BUCKETS + len(SHAPES)


@dataclass(frozen=True)
class Sentence:
    """Words, and for some tasks a tag for each of them.

    Attributes:
        words: from first to last.
        tags: by task, as many as there are words.
    """

    words: tuple[str, ...]
    tags: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        """The number of words."""
        return len(self.words)


def blocks(file: Path) -> Iterator[list[str]]:
    """The lines of each sentence of a file in which an empty line ends a sentence."""
    return blocks_of(file.read_text(encoding="utf-8"))


def blocks_of(text: str) -> Iterator[list[str]]:
    r"""The same of a text.

    Example:
        >>> list(blocks_of("a B\n\nc D\ne F\n"))
        [['a B'], ['c D', 'e F']]
    """
    lines: list[str] = []
    # Not `splitlines`, which also ends a line at characters that are part of a word.
    for line in [*text.split("\n"), ""]:
        if line.strip():
            lines.append(line.rstrip("\r"))
        elif lines:
            yield lines
            lines = []


def tagged(
    sentences: Sequence[Sentence], labels: Mapping[str, Sequence[str]], length: int
) -> MultiTaskData:
    """Sentences as multi-task data of one tagging a task, padded to one length.

    A sentence that has no tags of a task is not labelled for it. The metric of a task whose labels
    follow the BIO scheme is the F1 of spans beside the error rate, which is the default.

    Arguments:
        sentences: none empty or longer than `length`.
        labels: for each task the tags that there are.
        length: words that a row has room for.

    Returns:
        Inputs `tokens`, `(sentences, length, 3)` numbers below `VOCABULARY`, and `mask`.

    Raises:
        UsageError: for a sentence that is empty or too long, a tag that is not among the labels,
            or tags that are not one a word.

    Example:
        >>> own = Sentence(("Time", "flies"), {"part": ("NOUN", "VERB")})
        >>> data = tagged([own], {"part": ["NOUN", "VERB"]}, length=3)
        >>> data.targets["part"], data.inputs["mask"]
        (tensor([[   0,    1, -100]]), tensor([[ True,  True, False]]))
    """
    rows = len(sentences)
    tokens = torch.zeros(rows, length, 3, dtype=torch.long)
    targets = {name: torch.full((rows, length), IGNORED) for name in labels}
    labelled = {name: torch.zeros(rows, dtype=torch.bool) for name in labels}
    numbers = {name: {tag: n for n, tag in enumerate(tags)} for name, tags in labels.items()}
    for row, sentence in enumerate(sentences):
        if not 1 <= len(sentence) <= length:
            raise UsageError(
                f"Sentence {row} has {len(sentence)} words where a row has room for 1 to {length}: "
                "leave out empty sentences, which would be padding alone, and longer ones."
            )
        tokens[row, : len(sentence)] = torch.tensor([seen(word) for word in sentence.words])
        for name in labels.keys() & sentence.tags.keys():
            own = sentence.tags[name]
            foreign = [tag for tag in own if tag not in numbers[name]]
            if foreign or len(own) != len(sentence):
                raise UsageError(
                    f"Sentence {row} has {len(sentence)} words and the tags {list(own)} of task "
                    f"{name!r}: give each word one of {list(labels[name])}."
                )
            targets[name][row, : len(own)] = torch.tensor([numbers[name][tag] for tag in own])
            labelled[name][row] = True
    tasks = tuple(Task.tagging(name, tuple(tags), "error rate") for name, tags in labels.items())
    return MultiTaskData(tasks, {"tokens": tokens, "mask": tokens[..., 0] > 0}, targets, labelled)


def tags_of(sentences: Sequence[Sentence], task: str) -> tuple[str, ...]:
    """The tags of a task that occur, in alphabetical order."""
    return tuple(sorted({tag for own in sentences for tag in own.tags.get(task, ())}))


def seen(word: str) -> tuple[int, int, int]:
    """What a network sees of a word: buckets of the word and of its last two letters, its shape.

    Example:
        >>> seen("Running")[1] == seen("being")[1]
        True
    """
    lower = word.lower()
    ending = 1 + WORD_BUCKETS + crc32(lower[-2:].encode()) % ENDING_BUCKETS
    shape = 1 + WORD_BUCKETS + ENDING_BUCKETS + SHAPES.index(_shape(word))
    return 1 + crc32(lower.encode()) % WORD_BUCKETS, ending, shape


def _shape(word: str) -> str:
    if any(letter.isdigit() for letter in word):
        return "number"
    if not any(letter.isalpha() for letter in word):
        return "mark"
    if word == word.lower():
        return "lower"
    if word == word.upper():
        return "upper"
    return "capital" if word[1:] == word[1:].lower() else "other"
