"""The study from NSMC to KOTE: its parts on made-up texts, and all of it at a tiny size."""

import pytest
import torch

from mtlbook.book.studies import nsmc_to_kote as study
from mtlbook.data import kote, nsmc
from mtlbook.randomness import generator

GOOD, BAD = ("최고", "감동"), ("최악", "짜증")
FILMS, SHOPS = ("영화", "배우", "장면"), ("배송", "포장", "가격")


def written(count: int, nouns: tuple[str, ...], kind: str) -> list[tuple[str, bool]]:
    """Texts of a noun or two of a domain and a word that both domains use."""
    found = []
    draws = torch.randint(0, 1000, (count, 3), generator=generator(0, "texts", kind))
    for number, (noun, word, positive) in enumerate(draws.tolist()):
        own = (GOOD if positive % 2 else BAD)[word % 2]
        found.append((f"{nouns[noun % 3]}이 {own}였다 {number}번", bool(positive % 2)))
    return found


def test_pivots_are_the_words_with_a_polarity_that_both_domains_use():
    labelled = written(200, FILMS, "a")
    labelled += [("명작이다", True)] * 60  # a good sign that shops do not use
    positive, negative = study.pivots(labelled, [text for text, _ in written(100, SHOPS, "b")])
    assert set(GOOD) <= set(positive)
    assert set(BAD) <= set(negative)
    assert "명작" not in positive


def test_a_masked_text_has_no_feature_that_holds_a_letter_of_a_pivot():
    part = study._part(
        [("최고다 최고", True), ("영화", False)],
        ["최고", "고다", "최고다", "영화"],
        [["최고"], ["최악"]],
    )
    assert part.words.tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
    assert part.masked.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert part.hints.tolist() == [[1, 0], [0, 0]]
    assert part.labels.tolist() == [[1], [0]]


def test_features_do_not_cross_a_blank():
    assert study.grams("가나 다라") == {"가나", "다라"}


def test_more_labels_leave_all_other_texts_as_they_were(monkeypatch):
    monkeypatch.setattr(study, "VALIDATION", 20)
    monkeypatch.setattr(study, "TEST", 30)
    monkeypatch.setattr(study, "UNLABELLED", 60)
    reviews, comments = written(300, FILMS, "a"), written(200, SHOPS, "b")
    few, many = (study.drawn(reviews, comments, 0, labels) for labels in (40, 160))
    assert torch.equal(few.labelled.labels, many.labelled.labels[:40])
    for part in ("validation", "test", "unlabelled"):
        assert torch.equal(getattr(few, part).labels, getattr(many, part).labels)
    other = study.drawn(reviews, comments, 1, 40)
    assert not torch.equal(other.labelled.labels, few.labelled.labels)


@pytest.fixture
def tiny(monkeypatch):
    reviews = [nsmc.Review(text, label) for text, label in written(400, FILMS, "a")]
    sides = {True: frozenset({1, 2}), False: frozenset({0, 22})}
    comments = [kote.Comment(text, sides[label]) for text, label in written(300, SHOPS, "b")]
    comments += [
        kote.Comment("글쎄", frozenset({0, 1})),
        kote.Comment(reviews[0].text, sides[True]),
    ]
    monkeypatch.setattr(study.nsmc, "load", lambda: reviews)
    monkeypatch.setattr(study.kote, "load", lambda part: comments if part == "test" else [])
    sizes = {"FEW": 60, "MANY": 120, "VALIDATION": 60, "UNLABELLED": 100, "TEST": 90}
    for name, count in (sizes | {"FEATURES": 40, "PIVOTS": 2}).items():
        monkeypatch.setattr(study, name, count)


@pytest.mark.usefixtures("tiny")
def test_texts_of_both_sets_and_mixed_comments_are_left_out():
    reviews, comments = study.domains()
    assert len(reviews) == 399
    assert len(comments) == 301
    assert "글쎄" not in dict(comments)
    assert not set(dict(reviews)) & set(dict(comments))


@pytest.mark.usefixtures("tiny")
def test_the_whole_study_at_a_tiny_size():
    results = study.run([0, 1], "cpu", steps=10)
    assert results.columns.tolist() == ["seed", "labels", "method", "metric", "value"]
    assert results.groupby("labels").method.nunique().to_dict() == {60: 2, 120: 7}
    assert set(results.groupby(["labels", "method"]).size()) == {2}
    errors = 90 * results.value
    assert ((errors - errors.round()).abs() < 1e-4).all()
    assert results.value.between(0, 1).all()
