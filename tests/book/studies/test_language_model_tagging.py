"""The study of language models beside taggers, on sentences made up in the sets' own tags."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import language_model_tagging as study
from mtlbook.data.multi_task_data import Holdout
from mtlbook.data.sentences import Sentence
from mtlbook.metrics import SpanF1
from mtlbook.randomness import generator

SEEDS = [0, 1]
TAGS = {"upos": ("NOUN", "VERB", "X"), "entity": ("B-person", "I-person", "O", "O")}


def sentences(task: str, count: int = 60) -> list[Sentence]:
    """Made-up words in sentences of 2 to 22 words, with tags at random."""
    source = generator(0, task)

    def drawn(names: tuple[str, ...], number: int) -> tuple[str, ...]:
        return tuple(
            names[n] for n in torch.randint(len(names), (number,), generator=source).tolist()
        )

    lengths = torch.randint(2, 23, (count,), generator=source).tolist()
    return [
        Sentence(
            drawn(("time", "Flies", "like", "3", "."), length), {task: drawn(TAGS[task], length)}
        )
        for length in lengths
    ]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(study.conllu, "load", lambda name: sentences("upos"))
    monkeypatch.setattr(study.wnut17, "load", lambda: sentences("entity"))
    made = study._corpus

    def small(task, given, longest, split, few):
        return made(task, given, longest, Holdout(8, 3, 5), 4)

    monkeypatch.setattr(study, "_corpus", small)


def test_only_short_sentences_are_kept_and_of_wnut_those_that_mention_an_entity():
    longest = {"UD English": 12, "UD Korean": 12, "WNUT 2017": 20}
    corpora = study.corpora()
    for name, corpus in corpora.items():
        lengths = corpus.data.inputs["mask"].sum(1)
        assert lengths.min() >= 4
        assert lengths.max() <= longest[name]
        assert corpus.data.rows == 16
    corpus = corpora["WNUT 2017"]
    assert corpus.labels == ("B", "I", "O")
    outside = corpus.labels.index("O")
    known = corpus.data.inputs["mask"]
    assert ((corpus.data.targets["mention"] != outside) & known).any(1).all()


def test_everyone_has_four_trials_and_f1_is_that_of_the_chosen_one():
    corpus = study.corpora()["WNUT 2017"]
    chosen = study.contestants(corpus, SEEDS, "cpu", steps=3)
    assert [len(own.fits) for own in chosen.values()] == [4, 4, 4, 2, 2]
    for name in ("γ = 0.1", "γ = 1"):
        for trial, fit in chosen[name].fits.items():
            assert fit is chosen["beside"].fits[trial]
            assert trial.startswith(f"{name}, dropout")
    for own in chosen.values():
        found = study.measured(corpus, own)
        for place, seed in enumerate(SEEDS):
            fit = own.fits[str(own.choices.loc[seed, "mention"])]
            rows = torch.from_numpy(fit.test[place])
            target = corpus.data.targets["mention"][rows]
            predicted = torch.from_numpy(fit.predictions["mention"][place])
            assert found["F1"][place] == SpanF1(("B", "I", "O"))(predicted, target)


def test_the_whole_study_at_a_tiny_size():
    results = study.run(SEEDS, "cpu", steps=2)
    assert results.columns.tolist() == ["seed", "data", "method", "metric", "value"]
    methods = ["alone", "beside", "with text", "γ = 0.1", "γ = 1"]
    assert results.method.unique().tolist() == methods
    assert results.data[results.metric == "F1"].unique().tolist() == ["WNUT 2017"]
    assert len(results) == len(SEEDS) * len(methods) * 4
    assert np.isfinite(results.value).all()
