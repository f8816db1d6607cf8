"""NLU++: utterances to a bank and to a hotel, each with all the intents that it has.

Casanueva, Vulić, Spithourakis and Budzianowski (2022, *NLU++: a multi-label, slot-rich,
generalisable dataset for natural language understanding in task-oriented dialogue*). 2,071
utterances with 48 intents (banking), 1,009 with 40 (hotels); the domains have 26 intents in common,
such as `affirm` or `how_long`. The slots are not read.
"""

import json
from pathlib import Path
from typing import Any

import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.registry import fetch
from mtlbook.tasks import Task

DOMAINS = ("banking", "hotels")
# Counts as they are: the vectorizer takes this norm, and its type does not know.
COUNTS: dict[str, Any] = {"alternate_sign": False, "norm": None}


def load(inputs: int = 512) -> MultiTaskData:
    """The two domains as data sets of their own, on the words and pairs of words of an utterance.

    Arguments:
        inputs: how many counts of words and pairs an utterance has: each falls into one of them by
            its hash, so that no vocabulary is learnt; such as 1 for a word.

    Returns:
        A multi-label task for each domain, its intents in alphabetical order, in float64.
    """
    folder = fetch("nlupp")
    vectorizer = HashingVectorizer(
        n_features=inputs,
        ngram_range=(1, 2),
        alternate_sign=False,
        norm=None,  # pyright: ignore[reportArgumentType]  # whose annotation forgets it
    )
    sets = {}
    for domain in DOMAINS:
        texts, intents = read(folder, domain)
        names = sorted(set().union(*intents))
        labels = [[float(name in own) for name in names] for own in intents]
        counts = csr_matrix(vectorizer.transform(texts))
        features = torch.from_numpy(counts.toarray())
        task = Task.binary(domain, outputs=len(names))
        sets[task] = (features, torch.tensor(labels, dtype=torch.float64))
    return MultiTaskData.several(sets)


def read(folder: Path, domain: str) -> tuple[list[str], list[set[str]]]:
    """The utterances of a domain, fold by fold, and the intents of each; some have none."""
    folds = sorted(
        folder.glob(f"{domain}_fold*.json"), key=lambda file: int(file.stem.split("fold")[1])
    )
    rows = [row for fold in folds for row in json.loads(fold.read_text(encoding="utf-8"))]
    return [row["text"] for row in rows], [set(row.get("intents", [])) for row in rows]
