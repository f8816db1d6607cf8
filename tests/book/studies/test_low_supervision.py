"""The study of low supervision in text, on sentences made up in the sets' own tags."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import low_supervision as study
from mtlbook.data.sentences import Sentence
from mtlbook.metrics import IGNORED, SpanF1
from mtlbook.randomness import generator

SEEDS = [0, 1]
TAGS = {
    "upos": ("NOUN", "VERB", "X"),
    "deprel": ("root", "obj"),
    "pos": ("NN", "VB"),
    "chunk": ("B-NP", "I-NP", "O"),
    "entity": ("B-person", "I-person", "O"),
}


def sentences(*tasks: str, count: int = 40) -> list[Sentence]:
    """Made-up words in sentences of 2 to 14 words, with tags at random."""
    source = generator(0, *tasks)

    def drawn(names: tuple[str, ...], number: int) -> tuple[str, ...]:
        return tuple(
            names[n] for n in torch.randint(len(names), (number,), generator=source).tolist()
        )

    lengths = torch.randint(2, 15, (count,), generator=source).tolist()
    return [
        Sentence(
            drawn(("time", "Flies", "like", "3", "."), length),
            {task: drawn(TAGS[task], length) for task in tasks},
        )
        for length in lengths
    ]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(study.conllu, "load", lambda name: sentences("upos", "deprel"))
    monkeypatch.setattr(study.conll2000, "load", lambda: sentences("pos", "chunk", count=36))
    monkeypatch.setattr(study.wnut17, "load", lambda: sentences("entity"))
    monkeypatch.setattr(study, "SENTENCES", 20)
    monkeypatch.setattr(study, "LABELS", 5)


def test_only_short_sentences_are_kept_and_few_have_the_main_tags():
    for name, corpus in study.corpora().items():
        lengths = corpus.data.inputs["mask"].sum(1)
        assert lengths.min() >= 4
        assert lengths.max() <= 12
        split = corpus.split.draw(corpus.data, seed=0)
        known = corpus.data.labelled
        both = known[corpus.low] & known[corpus.main]
        assert bool(both.any()) is (name != "WNUT 2017")
        labelled = split.labelled[corpus.main][split.train]
        assert int(labelled.sum()) == 5
        assert int(split.labelled[corpus.low][split.train].sum()) == 12


def test_the_heads_stand_where_the_protocol_says():
    corpus = study.corpora()["CoNLL-2000"]
    model = study.tagger(corpus.data, 0, at={"pos": 1})
    assert model.at == {"pos": 1, "chunk": 3}
    size = sum(own.numel() for own in model.layers[1].parameters())
    assert size == 2 * 4 * 12 * (24 + 12 + 2)


def test_everyone_has_three_trials_and_f1_is_that_of_the_chosen_one():
    corpus = study.corpora()["CoNLL-2000"]
    chosen = study.contestants(corpus, SEEDS, "cpu", steps=3)
    assert [len(own.fits) for own in chosen.values()] == [3] * 5
    layers = [own for name, own in chosen.items() if name.startswith("layer")]
    best = list(chosen["best layer"].fits.values())
    assert best == [own.fits["rate 0.02"] for own in layers]
    for own in chosen.values():
        found = study.measured(corpus, own)
        for place, seed in enumerate(SEEDS):
            fit = own.fits[str(own.choices.loc[seed, "chunk"])]
            rows = torch.from_numpy(fit.test[place])
            target = corpus.data.targets["chunk"][rows]
            predicted = torch.from_numpy(fit.predictions["chunk"][place])
            score = float(SpanF1(("B-NP", "I-NP", "O"))(predicted, target))
            assert found["F1"][place] == score
            wrong = (predicted.argmax(1) != target)[target != IGNORED].double().mean()
            assert found["error"][place] == pytest.approx(float(wrong))


def test_the_whole_study_at_a_tiny_size():
    results = study.run(SEEDS, "cpu", steps=2)
    assert results.columns.tolist() == ["seed", "data", "method", "metric", "value"]
    methods = ["single-task", "layer 1", "layer 2", "layer 3", "best layer"]
    assert results.method.unique().tolist() == methods
    with_spans = results.data[results.metric == "F1"].unique().tolist()
    assert with_spans == ["CoNLL-2000", "WNUT 2017"]
    assert len(results) == len(SEEDS) * len(methods) * (2 + 2 + 3 + 3)
    assert np.isfinite(results.value).all()
