"""Tagged sentences and the three readers, on tiny files in the sets' own formats."""

from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from mtlbook.data import conll2000, conllu, registry, wnut17
from mtlbook.data.sentences import (
    ENDING_BUCKETS,
    SHAPES,
    VOCABULARY,
    WORD_BUCKETS,
    Sentence,
    seen,
    tagged,
    tags_of,
)
from mtlbook.errors import UsageError
from mtlbook.metrics import IGNORED

TREE = """# sent_id = 1
# text = Don't go home!
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tto\t_\tADP\t_\t_\t_\t_\t_\t_
4\thome\thome\tNOUN\tNN\t_\t3\tobl:npmod\t_\t_

# text = 제일
1\t제일\t제일\tADV\tNNG\t_\t0\troot\t_\t_
"""


def in_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(registry, "fetch", lambda name: folder)


@pytest.mark.parametrize(("treebank", "stem"), conllu.TREEBANKS.items())
def test_a_treebank_is_read_word_by_word(tmp_path, monkeypatch, treebank, stem):
    (tmp_path / f"{stem}-ud-dev.conllu").write_text(TREE, encoding="utf-8")
    in_folder(monkeypatch, tmp_path)
    first, second = conllu.load(treebank, "dev")
    assert first.words == ("Do", "n't", "go", "home")
    assert first.tags["upos"] == ("AUX", "PART", "VERB", "NOUN")
    assert first.tags["deprel"] == ("aux", "advmod", "root", "obl")
    assert second == Sentence(("제일",), {"upos": ("ADV",), "deprel": ("root",)})


def test_chunks_are_read_from_the_archive(tmp_path, monkeypatch):
    with ZipFile(tmp_path / "conll2000.zip", "w") as archive:
        archive.writestr("conll2000/train.txt", "He PRP B-NP\nreckons VBZ B-VP\n\n. . O\n")
        archive.writestr("conll2000/test.txt", "Rockwell NNP B-NP\n")
    in_folder(monkeypatch, tmp_path)
    first, second = conll2000.load()
    assert first == Sentence(("He", "reckons"), {"pos": ("PRP", "VBZ"), "chunk": ("B-NP", "B-VP")})
    assert second.words == (".",)
    assert conll2000.load("test")[0].tags["pos"] == ("NNP",)


def test_entities_are_read_and_odd_characters_stay_in_their_word(tmp_path, monkeypatch):
    text = "Empire\tB-location\nState\tI-location\n\t\na\u2028b\tO\r\n\n"
    for file in wnut17.FILES.values():
        (tmp_path / file).write_text(text, encoding="utf-8", newline="")
    in_folder(monkeypatch, tmp_path)
    for part in wnut17.FILES:
        first, second = wnut17.load(part)
        assert first.tags["entity"] == ("B-location", "I-location")
        assert second == Sentence(("a\u2028b",), {"entity": ("O",)})


@pytest.mark.parametrize(
    ("read", "lines"),
    [
        (conllu.sentence, ["1\tGo"]),
        (conll2000.sentence, ["Go VB"]),
        (wnut17.sentence, ["Go VB O"]),
    ],
)
def test_other_columns_are_refused(read, lines):
    with pytest.raises(UsageError, match="columns, and"):
        read(lines)


def test_unknown_parts_are_refused():
    for load in (conll2000.load, wnut17.load):
        with pytest.raises(UsageError, match="no part 'valid': choose one of train"):
            load("valid")
    with pytest.raises(UsageError, match="no part 'valid'"):
        conllu.load("ud_korean_gsd", "valid")
    with pytest.raises(UsageError, match="no treebank 'ud_danish'"):
        conllu.load("ud_danish")


def test_sentences_become_padded_tensors():
    parsed = Sentence(("Time", "flies", "!"), {"part": ("NOUN", "VERB", "MARK")})
    named = Sentence(("Time",), {"name": ("B-title",)})
    labels = {"part": tags_of([parsed, named], "part"), "name": ("O", "B-title", "I-title")}
    assert labels["part"] == ("MARK", "NOUN", "VERB")
    data = tagged([parsed, named], labels, length=4)
    assert data.targets["part"][0].tolist() == [1, 2, 0, IGNORED]
    assert data.targets["name"][1].tolist() == [1, IGNORED, IGNORED, IGNORED]
    assert data.labelled["part"].tolist() == [True, False]
    assert data.labelled["name"].tolist() == [False, True]
    assert data.inputs["mask"].sum(1).tolist() == [3, 1]
    assert torch.equal(data.inputs["tokens"][0, 0], data.inputs["tokens"][1, 0])
    assert not data.inputs["tokens"][1, 1:].any()
    assert [task.metric.name for task in data.tasks] == ["error rate", "error rate"]


def test_each_column_of_a_word_has_numbers_of_its_own():
    words = ["time", "Time", "TIME", "T1me", "!", "tiMe", "제일", "", "-"]
    shapes = [SHAPES[seen(word)[2] - 1 - WORD_BUCKETS - ENDING_BUCKETS] for word in words]
    assert (
        shapes == ["lower", "capital", "upper", "number", "mark", "other", "lower"] + ["mark"] * 2
    )
    for word in words:
        whole, ending, shape = seen(word)
        assert 1 <= whole <= WORD_BUCKETS < ending <= WORD_BUCKETS + ENDING_BUCKETS < shape
        assert shape < VOCABULARY
    assert seen("Time")[:2] == seen("time")[:2]


def test_sentences_that_fit_no_row_are_refused():
    labels = {"part": ("NOUN",)}
    with pytest.raises(UsageError, match=r"Sentence 0 has 0 words .* padding alone"):
        tagged([Sentence((), {"part": ()})], labels, length=3)
    with pytest.raises(UsageError, match="Sentence 0 has 2 words where a row has room for 1 to 1"):
        tagged([Sentence(("a", "b"), {"part": ("NOUN", "NOUN")})], labels, length=1)
    for wrong in (("VERB",), ("NOUN", "NOUN")):
        with pytest.raises(UsageError, match="give each word one of"):
            tagged([Sentence(("a",), {"part": wrong})], labels, length=3)
