"""The study of English words, on a made-up treebank."""

from dataclasses import replace

import numpy as np
import pytest

from mtlbook.book.experiments.helpful_tasks import ALL, values
from mtlbook.book.studies import english_pairs as study

WORDS = (
    ("The", "DET", "Definite=Def|PronType=Art", 2, "det"),
    ("dogs", "NOUN", "Number=Plur", 3, "nsubj"),
    ("chase", "VERB", "VerbForm=Fin", 0, "root"),
    ("it", "PRON", "Number=Sing|PronType=Prs", 3, "obj"),
    (".", "PUNCT", "_", 3, "punct:end"),
)


def sentence(words=WORDS):
    return [
        f"{place}\t{word}\t{word}\t{upos}\t_\t{features}\t{head}\t{relation}\t_\t_"
        for place, (word, upos, features, head, relation) in enumerate(words, start=1)
    ]


@pytest.fixture
def treebank(tmp_path, monkeypatch):
    turned = (*WORDS[2:], *WORDS[:2])
    text = "\n".join([*sentence(), "", *sentence(turned), ""]) + "\n"
    for part in study.PARTS:
        (tmp_path / f"en_ewt-ud-{part}.conllu").write_text(20 * text, encoding="utf-8")
    monkeypatch.setattr(study.registry, "fetch", lambda name: tmp_path)
    monkeypatch.setattr(study, "SPLIT", replace(study.SPLIT, train=60, validation=30, test=40))
    monkeypatch.setattr(study, "LABELS", dict.fromkeys(study.LABELS, 40) | {"upos": 60})


def test_labels_are_those_of_the_columns():
    the, dogs, chase, it, stop = study.labelled(["# text", "1-2\tx", *sentence()])
    assert (the["upos"], the["pron_type"], the["side"], the["dependents"]) == (
        "DET",
        "Art",
        "behind",
        "0",
    )
    assert (dogs["number"], dogs["next_upos"], dogs["before"]) == ("Plur", "VERB", "The")
    assert (chase["verb_form"], chase["side"], chase["dependents"]) == ("Fin", "root", "3")
    assert (it["side"], it["behind"]) == ("before", ".")
    assert (stop["deprel"], stop["next_upos"], stop["behind"]) == ("punct", "none", "")


def test_inputs_are_the_same_for_the_same_words_and_tell_neighbours_apart():
    words = study.labelled(sentence())
    found = study.inputs(words)
    assert found.shape == (5, 96)
    assert np.array_equal(found, study.inputs(words))
    assert not np.allclose(found[0, :32], found[1, :32])
    assert np.allclose(found[0, 32:64], found[1, :32])  # the word is what stands before the next


def test_the_study_has_all_measures_for_each_seed(treebank):
    table = study.run([0, 1], "cpu", steps=20)
    assert list(table.columns) == ["seed", "of", "left out", "metric", "value"]
    assert set(table["metric"]) == {"area", "error", "agreement", "gain"}
    assert table["metric"].tolist().count("gain") == 2 * 56
    assert values(table, ALL, "new auxiliary").shape == (2,)
    assert values(table, "cosine", metric="agreement").shape == (2,)
    assert np.isfinite(table["value"]).all()
