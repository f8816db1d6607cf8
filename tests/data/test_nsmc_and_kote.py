"""The readers of two sets of Korean texts, on tiny files in their own formats."""

import pytest

from mtlbook.data import kote, nsmc, registry
from mtlbook.errors import UsageError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "ratings_valid.txt").write_text(
        "id\tdocument\tlabel\n1\t굳 ㅋ\t1\n2\t \t0\n3\t지루하다\x85 정말\t0\n", encoding="utf-8"
    )
    (tmp_path / "test.tsv").write_text("9\t최고의영화..\t2,28\n8\t글쎄\t0,1\n", encoding="utf-8")
    (tmp_path / "val.tsv").write_text("7\t짜증\t22,0,24\n", encoding="utf-8")
    monkeypatch.setattr(registry, "fetch", lambda name: tmp_path)
    return tmp_path


def test_reviews_are_read_and_empty_ones_left_out(folder):
    first, second = nsmc.load()
    assert first == nsmc.Review("굳 ㅋ", True)
    assert second == nsmc.Review("지루하다\x85 정말", False)  # a control character ends no line


def test_comments_are_read_with_their_emotions(folder):
    first, second = kote.load()
    assert first == kote.Comment("최고의영화..", frozenset({2, 28}))
    assert [own.polarity for own in (first, second, *kote.load("validation"))] == [
        True,
        None,
        False,
    ]


def test_every_emotion_has_one_side():
    assert len(kote.EMOTIONS) == 44
    sides = (kote.POSITIVE, kote.NEGATIVE, kote.NEITHER)
    assert sorted(number for side in sides for number in side) == list(range(44))
    named = {kote.EMOTIONS[number] for number in kote.NEITHER}
    assert named == {"비장함", "신기함/관심", "없음", "깨달음", "불쌍함/연민", "놀람"}


@pytest.mark.parametrize(
    ("emotions", "expected"),
    [
        ({1, 2, 4, 7, 0}, True),  # four of five
        ({1, 2, 4, 0}, None),
        ({0, 3, 5, 6, 1}, False),
        ({11, 24}, None),
        ({11, 24, 1}, True),
    ],
)
def test_a_polarity_needs_four_of_five(emotions, expected):
    assert kote.polarity(frozenset(emotions)) is expected


def test_an_unknown_part_is_refused():
    with pytest.raises(UsageError, match="no part 'dev'"):
        kote.load("dev")


@pytest.mark.parametrize("line", ["1\tonly a text", "1\ta text\t2", "1\ta\ttab\t1"])
def test_lines_that_are_no_reviews_are_refused(line):
    with pytest.raises(UsageError, match="an id, a text and 0 or 1"):
        nsmc.parsed([line])


@pytest.mark.parametrize("line", ["1\ta text", "1\ta text\t", "1\ta text\t44", "1\ta text\t-1"])
def test_lines_that_are_no_comments_are_refused(line):
    with pytest.raises(UsageError, match="from 0 to 43"):
        kote.parsed([line])


@pytest.mark.parametrize(
    ("name", "read"), [("nsmc", {nsmc.FILE}), ("kote", set(kote.FILES.values()))]
)
def test_the_files_are_those_of_the_registry(name, read):
    assert read == {own.file for own in registry.data_set(name).files}
