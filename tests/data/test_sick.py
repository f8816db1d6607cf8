"""SICK's reader on a tiny file in its own format."""

import pytest
import torch

from mtlbook.data import registry, sick
from mtlbook.errors import UsageError

HEAD = "pair_ID\tsentence_A\tsentence_B\tentailment_label\trelatedness_score\tSemEval_set\n"
ROWS = (
    '1\tA man "sings"\tA man is singing\tENTAILMENT\t4.6\tTRAIN\n'
    "2\tNobody sings\tA man is singing\tCONTRADICTION\t3.2\tTRIAL\n"
    "3\tA dog\tA man\tNEUTRAL\t1\tTRAIN\n"
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "SICK.txt"
    path.write_text(HEAD + ROWS, encoding="utf-8")
    monkeypatch.setattr(registry, "fetch", lambda name: tmp_path)
    return path


def test_pairs_are_read_by_part(file):
    first, second = sick.load()
    assert first == sick.Pair(
        ("A", "man", '"sings"'), ("A", "man", "is", "singing"), 4.6, "ENTAILMENT"
    )
    assert (second.relatedness, second.relation) == (1.0, "NEUTRAL")
    assert [own.first for own in sick.load("dev")] == [("Nobody", "sings")]
    assert sick.load("test") == []


def test_an_unknown_part_is_refused():
    with pytest.raises(UsageError, match="no part 'trial'"):
        sick.load("trial")


@pytest.mark.parametrize(
    "row",
    [
        "4\t \tA man\tNEUTRAL\t1\tTRAIN\n",
        "4\tA dog\tA man\tUNKNOWN\t1\tTRAIN\n",
        "4\tA dog\tA man\tNEUTRAL\t5.5\tTRAIN\n",
    ],
)
def test_pairs_that_cannot_be_are_refused(file, row):
    file.write_text(HEAD + ROWS + row, encoding="utf-8")
    with pytest.raises(UsageError, match="Pair 4 of SICK needs words in both"):
        sick.load()


def test_a_score_is_the_mean_of_its_distribution():
    scores = [1.0, 1.5, 3.2, 4.0, 4.999, 5.0]
    found = sick.distribution(scores)
    torch.testing.assert_close(found.sum(1), torch.ones(6, dtype=torch.float64))
    mean = found @ torch.arange(1, 6, dtype=torch.float64)
    torch.testing.assert_close(mean, torch.tensor(scores, dtype=torch.float64))
    assert (found > 0).sum(1).tolist() == [1, 2, 2, 1, 2, 1]


def test_the_published_parts_have_their_sizes(downloaded):
    downloaded("sick")
    assert [len(sick.load(part)) for part in sick.PARTS] == [4439, 495, 4906]
