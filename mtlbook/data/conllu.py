"""Treebanks of Universal Dependencies, in the format CoNLL-U: parts of speech and relations.

`ud_english_ewt` is the English Web Treebank (Silveira et al., 2014), `ud_korean_gsd` the Korean
treebank GSD (McDonald et al., 2013; Chun et al., 2018), where a word is an eojeol, a word with its
particles. Their tags are those of Universal Dependencies (de Marneffe et al., 2021).
"""

from collections.abc import Sequence

from mtlbook.data import registry
from mtlbook.data.sentences import Sentence, blocks
from mtlbook.errors import UsageError

TREEBANKS = {"ud_english_ewt": "en_ewt", "ud_korean_gsd": "ko_gsd"}
PARTS = ("train", "dev", "test")


def load(treebank: str, part: str = "train") -> list[Sentence]:
    """The sentences of a part of a treebank, downloaded at the first call.

    The tags are `upos`, the universal part of speech, and `deprel`, the relation of a word to its
    head without its language's own subtype (`nsubj:pass` is `nsubj`).

    Arguments:
        treebank: one of `TREEBANKS`.
        part: `train`, `dev` or `test`.

    Raises:
        UsageError: for an unknown treebank or part.
    """
    for what, name, known in (("treebank", treebank, TREEBANKS), ("part", part, PARTS)):
        if name not in known:
            raise UsageError(f"There is no {what} {name!r}: choose one of {', '.join(known)}.")
    file = registry.fetch(treebank) / f"{TREEBANKS[treebank]}-ud-{part}.conllu"
    return [sentence(lines) for lines in blocks(file)]


def sentence(lines: Sequence[str]) -> Sentence:
    r"""A sentence from its lines, without comments, joined tokens (1-2) and empty nodes (1.1).

    Example:
        >>> sentence(["# text = Go!", "1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_"]).tags
        {'upos': ('VERB',), 'deprel': ('root',)}
    """
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    for row in rows:
        if len(row) != 10:
            raise UsageError(f"A line of CoNLL-U has 10 columns, and {row} has {len(row)}.")
    words = [row for row in rows if row[0].isdigit()]
    return Sentence(
        tuple(row[1] for row in words),
        {
            "upos": tuple(row[3] for row in words),
            "deprel": tuple(row[7].partition(":")[0] for row in words),
        },
    )
