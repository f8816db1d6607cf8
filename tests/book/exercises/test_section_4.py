"""The exercises of section 4: likely mistakes meet a hint."""

import numpy as np
import pytest

from mtlbook.book import exercises
from mtlbook.book.experiments.factorial import contrast, effect, half_fraction


def sums(runs, gains, switch):
    return sum(gain if run[switch] else -gain for run, gain in zip(runs, gains, strict=True))


WRONG = {
    "4.a": [
        (lambda runs, gains, switch: -sums(runs, gains, switch) / 2, "on minus off"),
        (sums, "not sums"),
        (lambda runs, gains, switch: sums(runs, gains, switch) / 4, "whole"),
        (lambda runs, gains, switch: sum(gains), "mean 7"),
        (lambda runs, gains, switch: sums(runs, gains, switch) / 2, "its own runs"),
    ],
    "4.b": [
        (lambda switches, chosen: chosen, "other"),
        (lambda switches, chosen: set(), "product"),
        (lambda switches, chosen: switches, "product"),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [(name, answer, hint) for name, wrong in WRONG.items() for answer, hint in wrong],
)
def test_a_wrong_answer_meets_a_hint(name, answer, hint):
    assert hint in (exercises.get(name).hint(answer) or "")


def test_the_references_agree_with_the_package():
    runs = half_fraction(list("abcde"))
    gains = np.random.default_rng(0).normal(size=len(runs))
    assert exercises.get("4.a").reference(runs, gains.tolist(), "c") == pytest.approx(
        effect(runs, gains[:, None], "c").item()
    )
    others = exercises.get("4.b").reference(list("abcde"), ["a", "d"])
    assert np.array_equal(contrast(runs, *sorted(others)), contrast(runs, "a", "d"))
