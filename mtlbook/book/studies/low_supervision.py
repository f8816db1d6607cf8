r"""Section 6.4: at which layer to supervise parts of speech, in text of four data sets.

A stack of three bidirectional LSTM layers of 12 units a direction reads the sum of three vectors of
each word, for buckets of the word and of its last two letters and for its shape, of 16 entries. The
main task's head stands at layer 3 throughout; the low task's at layer 1, 2 or 3, or nowhere. Each
layer reads both directions of the layer below, at the same position.

| data              | low task, sentences  | main task, sentences of 600         |
|-------------------|----------------------|-------------------------------------|
| UD English (EWT)  | part of speech, 600  | relation to the head, 150           |
| UD Korean (GSD)   | part of speech, 600  | relation to the head, 150           |
| CoNLL-2000        | Brill's tags, 600    | chunk, 150                          |
| WNUT 2017         | part of speech, 600  | entity, 150 (other sentences)       |

All of it are short sentences, of 4 to 12 words, of the training files, split at random anew for
each seed into training, 100 validation and 300 test sentences (of WNUT 600, 49 and 150). WNUT has
no parts of speech: its low task is that of UD English, on sentences of that treebank. The numbers
are therefore not those of the papers, where all sentences have both tags.

A step sees 8 sentences with the tags of each task, and adds the losses; 150 steps by Adam. Every
contestant has three trials and for each seed takes the one with the least validation loss of the
main task, at the step where that is least: for single-task and each layer these are three learning
rates; *best layer* has the three layers, at the middle rate. A sentence's loss is the mean over its
words. Beside the loss, the error rate of words is recorded, and for chunks and entities the F1 of
spans. All in float32: other processors may give other third digits. About 5 minutes on one core.
Fixed after pilots on seeds from 7000.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.book.experiments.training import adam
from mtlbook.data import conll2000, conllu, wnut17
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.sentences import VOCABULARY, Sentence, tagged, tags_of
from mtlbook.layers.recurrent import LSTM
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.metrics import SpanF1
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "6.4"
DATA = ("ud_english_ewt", "ud_korean_gsd", "conll2000", "wnut17")
SEEDS = 16

SHORTEST, LONGEST = 4, 12  # words of a sentence
SENTENCES = 1_000  # of each data set, the first short ones
LABELS = 150  # sentences with the main task's tags
WIDTH, UNITS, DEPTH = 16, 12, 3
BATCH = 8
STEPS = 150
RATES = (0.01, 0.02, 0.04)


class Corpus(NamedTuple):
    """Two taggings and how they are split.

    Attributes:
        low, main: the names of the tasks.
        labels: the main task's tags.
        data: all sentences.
        split: into the three parts.
    """

    low: str
    main: str
    labels: tuple[str, ...]
    data: MultiTaskData
    split: Holdout


def corpora() -> dict[str, Corpus]:
    """The four data sets."""
    english = conllu.load("ud_english_ewt")
    upos = [Sentence(own.words, {"upos": own.tags["upos"]}) for own in english]
    return {
        "UD English": _corpus("upos", "deprel", english),
        "UD Korean": _corpus("upos", "deprel", conllu.load("ud_korean_gsd")),
        "CoNLL-2000": _corpus("pos", "chunk", conll2000.load()),
        "WNUT 2017": _corpus("upos", "entity", upos, wnut17.load()),
    }


def _corpus(low: str, main: str, *sources: Sequence[Sentence]) -> Corpus:
    """The first short sentences of each source; the smallest source decides the parts' sizes."""
    short = [[own for own in each if SHORTEST <= len(own) <= LONGEST] for each in sources]
    rows = min(SENTENCES, *(len(own) for own in short))
    kept = [sentence for own in short for sentence in own[:rows]]
    every = [own for each in sources for own in each]
    labels = {name: tags_of(every, name) for name in (low, main)}
    train = round(0.6 * SENTENCES)
    validation = (rows - train) // 4
    test = rows - train - validation
    split = Holdout(train=train, validation=validation, test=test, labels={main: LABELS})
    return Corpus(low, main, labels[main], tagged(kept, labels, LONGEST), split)


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Losses, error rates and F1 of the main task: a row a seed, data set, method and metric."""
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

    def searched(tasks: Sequence[str], layer: int = DEPTH) -> dict[str, Fit]:
        settings = Settings(
            tasks=tasks,
            split=corpus.split,
            steps=steps,
            sampler=Balanced(BATCH),
            stopping=corpus.main,
            validate_every=max(1, steps // 10),
            evaluate_on=("validation", "test"),
            device=device,
            dtype=torch.float32,
        )
        trials = {f"rate {rate:g}": Trial(adam(rate)) for rate in RATES}
        build = partial(tagger, at={corpus.low: layer} if corpus.low in tasks else {})
        return fit_trials(build, corpus.data, seeds=seeds, trials=trials, settings=settings)

    both = [corpus.low, corpus.main]
    layers = {f"layer {number}": searched(both, number) for number in range(1, DEPTH + 1)}
    middle = f"rate {RATES[len(RATES) // 2]:g}"
    fits = {
        "single-task": searched([corpus.main]),
        **layers,
        "best layer": {name: own[middle] for name, own in layers.items()},
    }
    return {name: select(own, each_task=True) for name, own in fits.items()}


def tagger(data: MultiTaskData, _seed: int, *, at: Mapping[str, int]) -> LowSupervision:
    """Three layers, and a linear head for each task, the low task's at a layer of its own."""
    widths = [WIDTH, *[2 * UNITS] * (DEPTH - 1)]

    def stages() -> list[nn.Module]:
        first, *upper = [Masked(LSTM(width, UNITS)) for width in widths]
        return [nn.Sequential(Words(VOCABULARY, WIDTH), first), *upper]

    heads = {task.name: TagHead(2 * UNITS, task.outputs) for task in data.tasks}
    return LowSupervision(stages, heads, at=at)


def measured(corpus: Corpus, chosen: Selected) -> dict[str, list[float]]:
    """The main task's scores on the test sentences, a value a seed."""
    name = corpus.main
    found = {
        "loss": chosen.score(name, "loss").tolist(),
        "error": chosen.score(name).tolist(),
    }
    if "O" in corpus.labels:
        span_f1 = SpanF1(corpus.labels)
        found["F1"] = []
        for place, trial in enumerate(chosen.choices[name]):
            fit = chosen.fits[trial]
            target = corpus.data.targets[name][torch.from_numpy(fit.test[place])]
            known = corpus.data.labelled[name][torch.from_numpy(fit.test[place])]
            predicted = torch.from_numpy(fit.predictions[name][place])
            found["F1"].append(float(span_f1(predicted[known], target[known])))
    return found
