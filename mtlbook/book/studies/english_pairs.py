"""Section 7.9: which of eight tasks on English words help each other, and what foretells it.

Words of the English Web Treebank (Universal Dependencies). Eight classifications of a word: its
part of speech (`upos`) and that of the next word (`next_upos`), the relation to its head (`deprel`,
the sixteen most frequent ones and a rest), its `number`, `verb_form` and `pron_type`, the `side` on
which its head lies, and how many words depend on it (`dependents`, up to three). Half of the tasks
have 600 training labels, half have 200 (`LABELS`).

Each seed draws 600 words of the training part, 200 of the development and 800 of the test part. The
inputs are 96 numbers: for the word, the one before and the one behind, the sum of three random
vectors, one for each of 1,000 buckets of words, of 200 buckets of the last three letters, and of
six shapes. No word needs to be known, and nothing is fitted to any part.

Pairs, features, forecasts and controls are those of the page
(`mtlbook.book.experiments.helpful_tasks`), here with 16 hidden units, weight decay 0.1 and 200
steps. Recorded are the areas under the curve and the error rates of each set of features on pairs
of a left-out task, each feature's rank correlation with the gains within main tasks, and the gain
of each pair. Half a minute on one core. Fixed after pilots on seeds from 7000.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from zlib import crc32

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.experiments.helpful_tasks import Setting, gathered, measured
from mtlbook.data import registry
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.data.sentences import blocks
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

SECTION = "7.9"
DATA = ("ud_english_ewt",)
SEEDS = 16

SPLIT = Consecutive(train=600, validation=200, test=800)
LABELS = {
    "upos": 600,
    "deprel": 200,
    "number": 200,
    "verb_form": 600,
    "side": 600,
    "pron_type": 200,
    "dependents": 600,
    "next_upos": 200,
}
PARTS = ("train", "dev", "test")
RELATIONS, MOST_DEPENDENTS = 16, 3
BUCKETS = {"word": 1000, "ending": 200, "shape": 6}
COLUMNS = 32  # for each of the three words
STEPS = 200

Words = list[dict[str, str]]


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """The table of `measured`: columns seed, of, left out, metric and value."""
    words = {part: read(part) for part in PARTS}
    return measured(gathered(_setting(words, steps), seeds, device), seeds)


def read(part: str) -> Words:
    """The words of a part of the treebank, with the labels of all tasks as text."""
    file = registry.fetch("ud_english_ewt") / f"en_ewt-ud-{part}.conllu"
    return [word for lines in blocks(file) for word in labelled(lines)]


def labelled(lines: Sequence[str]) -> Words:
    r"""The words of a sentence with their neighbours and labels.

    Example:
        >>> rows = ["1\tGo\tgo\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\t_",
        ...         "2\thome\thome\tADV\tRB\t_\t1\tadvmod\t_\t_"]
        >>> first = labelled(rows)[0]
        >>> first["verb_form"], first["side"], first["dependents"], first["next_upos"]
        ('Inf', 'root', '1', 'ADV')
    """
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    rows = [row for row in rows if row[0].isdigit()]
    dependents = Counter(row[6] for row in rows)
    found = []
    for place, row in enumerate(rows):
        features = dict(own.split("=", 1) for own in row[5].split("|") if "=" in own)
        head = int(row[6])
        behind = rows[place + 1] if place + 1 < len(rows) else None
        found.append(
            {
                "word": row[1],
                "before": rows[place - 1][1] if place else "",
                "behind": behind[1] if behind else "",
                "upos": row[3],
                "next_upos": behind[3] if behind else "none",
                "deprel": row[7].partition(":")[0],
                "number": features.get("Number", "none"),
                "verb_form": features.get("VerbForm", "none"),
                "pron_type": features.get("PronType", "none"),
                "side": "root" if not head else "before" if head < int(row[0]) else "behind",
                "dependents": str(min(dependents[row[0]], MOST_DEPENDENTS)),
            }
        )
    return found


def _setting(words: dict[str, Words], steps: int) -> Setting:
    classes = {name: _classes(words["train"], name) for name in LABELS}
    tasks = [Task.classification(name, classes=len(own)) for name, own in classes.items()]
    sizes = dict(zip(PARTS, (SPLIT.train, SPLIT.validation, SPLIT.test), strict=True))

    @cache
    def data(seed: int) -> MultiTaskData:
        chosen: Words = []
        for part, size in sizes.items():
            source = generator(seed, "7.9 words", part)
            order = torch.randperm(len(words[part]), generator=source)[: int(size)]
            chosen += [words[part][place] for place in order.tolist()]
        targets = {
            name: torch.tensor([own.get(word[name], own["rest"]) for word in chosen])
            for name, own in classes.items()
        }
        return MultiTaskData.multi_label(tasks, inputs(chosen), targets)

    most = max(len(own) for own in classes.values())
    return Setting(
        data, list(LABELS), SPLIT, LABELS, classes=most, width=16, decay=0.1, steps=steps
    )


def _classes(words: Words, name: str) -> dict[str, int]:
    """The number of each label; what is rarer than the most frequent ones is the rest."""
    counts = Counter(word[name] for word in words)
    common = [label for label, _ in counts.most_common(RELATIONS)]
    return {label: number for number, label in enumerate([*common, "rest"])}


def inputs(words: Words) -> Float[Tensor, "rows columns"]:
    """The sums of random vectors for the word, the one before and the one behind."""
    tables = {
        name: standard_normal(generator(0, "7.9 vectors", name), size, COLUMNS)
        for name, size in BUCKETS.items()
    }
    columns = []
    for place in ("before", "word", "behind"):
        numbers = {name: torch.tensor([_bucket(name, w[place]) for w in words]) for name in tables}
        columns.append(sum(tables[name][own] for name, own in numbers.items()) / len(tables) ** 0.5)
    return torch.cat(columns, dim=1)


def _bucket(name: str, word: str) -> int:
    if name == "shape":
        kinds = (word.islower(), word.istitle(), word.isupper(), word.isdigit(), not word.isalnum())
        return next((place for place, own in enumerate(kinds) if own), len(kinds))
    text = word.lower() if name == "word" else word.lower()[-3:]
    return crc32(text.encode()) % BUCKETS[name]
