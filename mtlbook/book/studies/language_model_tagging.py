r"""Section 7.8: a tagger beside a language model, in English, Korean, and noisy text of the web.

A bidirectional LSTM of one layer and 16 units a direction, the directions separate, reads the sum
of three vectors of each word, for buckets of the word and of its last two letters and for its
shape, of 16 entries. A linear head tags; beside it the two heads of a language model, each with a
tanh layer of 16 units, predict the buckets of the next and of the previous word: the 100 most
frequent of the training sentences have a class each, all others one together.

| data              | tags                 | sentences: tagged, training, validation, test |
|-------------------|----------------------|-----------------------------------------------|
| UD English (EWT)  | part of speech       | 150, 1,000, 150, 350                          |
| UD Korean (GSD)   | part of speech       | 150, 1,000, 150, 350                          |
| WNUT 2017         | mention of an entity | 250, 400, 50, 125                             |

All of it are short sentences of the training files, split at random anew for each seed: the first
of 4 to 12 words, and of WNUT those of 4 to 20 words that mention an entity, since among all short
ones no tagger of this size finds any; the types of entities are left out (tags B, I and O). The
numbers are therefore not those of the papers.

The contestants are those of the page (`mtlbook.book.experiments.language_model`): the tagger
*alone*, *beside* a language model of the tagged sentences, and the same *with text* of all training
sentences. Each has four trials and 150 steps of Adam at the rate 0.03, and for each seed takes the
trial and the step with the least validation loss of the tags: alone these are dropout 0, 0.2, 0.4
and 0.6, with a language model γ = 0.1 and 1 by dropout 0.2 and 0.4. *γ = 0.1* and *γ = 1* are the
choices among the two trials of each, beside a language model of the tagged sentences. A sentence's
loss is the mean over its words. Recorded are the error rate of words and, of mentions, the F1 of
spans. All in float32: other processors may give other third digits. About 2 minutes on one core.
Fixed after pilots on seeds from 7000.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch

from mtlbook.book.experiments.language_model import LanguageModels, of_gamma, tagger
from mtlbook.data import conllu, wnut17
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.sentences import VOCABULARY, Sentence, tagged, tags_of
from mtlbook.metrics import SpanF1
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.selection import Selected
from mtlbook.training.settings import Settings, Trial

SECTION = "7.8"
DATA = ("ud_english_ewt", "ud_korean_gsd", "wnut17")
SEEDS = 16

SHORTEST = 4  # words of a sentence
UNITS, WORDS = 16, 100
STEPS, RATE = 150, 0.03


class Corpus(NamedTuple):
    """Tagged sentences.

    Attributes:
        task: the name of the tagging.
        labels: its tags.
        data: the sentences.
        tagged: training sentences with tags.
        split: into the three parts.
    """

    task: str
    labels: tuple[str, ...]
    data: MultiTaskData
    tagged: int
    split: Holdout


def corpora() -> dict[str, Corpus]:
    """The three data sets."""
    treebank = Holdout(1_000, 150, 350)
    mentions = [
        Sentence(own.words, {"mention": tuple(tag[0] for tag in own.tags["entity"])})
        for own in wnut17.load()
    ]
    with_mention = [own for own in mentions if set(own.tags["mention"]) != {"O"}]
    return {
        "UD English": _corpus("upos", conllu.load("ud_english_ewt"), 12, treebank, 150),
        "UD Korean": _corpus("upos", conllu.load("ud_korean_gsd"), 12, treebank, 150),
        "WNUT 2017": _corpus("mention", with_mention, 20, Holdout(400, 50, 125), 250),
    }


def _corpus(
    task: str, sentences: Sequence[Sentence], longest: int, split: Holdout, few: int
) -> Corpus:
    rows = int(split.train + split.validation + split.test)
    short = [own for own in sentences if SHORTEST <= len(own) <= longest][:rows]
    labels = tags_of(sentences, task)
    return Corpus(task, labels, tagged(short, {task: labels}, longest), few, split)


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Error rates and F1 of the tags: a row a seed, data set, method and metric."""
    rows = [
        (seed, name, method, metric, value)
        for name, corpus in corpora().items()
        for method, own in contestants(corpus, seeds, device, steps).items()
        for metric, values in measured(corpus, own).items()
        for seed, value in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "data", "method", "metric", "value"])


def contestants(
    corpus: Corpus, seeds: Sequence[int], device: str, steps: int
) -> dict[str, Selected]:
    """The trials of each contestant, and each seed's choice among them."""
    models = LanguageModels(
        search=partial(_searched, seeds, device),
        build=partial(tagger, symbols=VOCABULARY, width=UNITS, recurrent=True),
        data=lambda _: corpus.data,
        split=corpus.split,
        labels=corpus.tagged,
        predictions=True,
        task=corpus.task,
        most=WORDS,
        steps=steps,
        rate=RATE,
    )
    beside = models.beside()
    return {
        "alone": models.alone(),
        "beside": beside,
        "with text": models.with_text(),
        **{f"γ = {gamma:g}": of_gamma(beside, gamma) for gamma in models.gammas},
    }


def _searched(
    seeds: Sequence[int],
    device: str,
    build: Any,
    data: Any,
    trials: Mapping[str, Mapping[str, Any]],
    **settings: Any,
) -> dict[str, Fit]:
    """Each trial's training, those of one dropout at once."""
    common = Settings(**settings, device=device, dtype=torch.float32)
    found: dict[str, Fit] = {}
    for dropout in sorted({own["dropout"] for own in trials.values()}):
        own = {
            name: Trial(combiner=trial.get("combiner"))
            for name, trial in trials.items()
            if trial["dropout"] == dropout
        }
        network = partial(build, dropout=dropout)
        found |= fit_trials(network, data, seeds=seeds, trials=own, settings=common)
    return {name: found[name] for name in trials}


def measured(corpus: Corpus, chosen: Selected) -> dict[str, list[float]]:
    """The scores on the test sentences, a value a seed."""
    task = corpus.task
    found = {"error": chosen.score(task).tolist()}
    if "O" in corpus.labels:
        span_f1 = SpanF1(corpus.labels)
        found["F1"] = []
        for place, trial in enumerate(chosen.choices[task]):
            fit = chosen.fits[trial]
            target = corpus.data.targets[task][torch.from_numpy(fit.test[place])]
            predicted = torch.from_numpy(fit.predictions[task][place])
            found["F1"].append(float(span_f1(predicted, target)))
    return found
