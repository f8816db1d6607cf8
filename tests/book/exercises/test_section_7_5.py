"""Exercises of section 7.5."""

import pytest
from scipy.stats import norm

from mtlbook.auxiliary.quantisation_smoothing import information_share
from mtlbook.book import exercises


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.5.a", lambda cut: norm.pdf(cut) ** 2, "label's variance"),
        ("7.5.a", lambda cut: norm.pdf(cut) / (norm.cdf(cut) * norm.sf(cut)), "squared"),
        ("7.5.a", lambda cut: 0.6, "the share is"),
        ("7.5.b", lambda mean, cut, spread: norm.cdf((cut - mean) / spread), "below the cut"),
        ("7.5.b", lambda mean, cut, spread: norm.cdf((mean - cut) / spread**2), "standard dev"),
        ("7.5.b", lambda mean, cut, spread: 0.0, "it is"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found


@pytest.mark.parametrize("id", ["7.5.a", "7.5.b"])
def test_the_reference_is_accepted(id):  # noqa: A002
    assert exercises.get(id).hint(exercises.get(id).reference) is None


def test_predictions_say_what_the_closed_form_says():
    assert round(100 / information_share(0.5)) == 157
    assert information_share(0.1, explained=0.8) < information_share(0.1)
    assert exercises.get("7.5.c").hint("falls") is None
    assert exercises.get("7.5.c").hint("rises") is not None
    assert exercises.get("7.5.d").hint(157) is None
