import math

import pytest

from mtlbook.book import exercises


def unweighted(containing, texts, other_containing, other_texts):
    return math.log((containing / texts) / (other_containing / other_texts))


def upside_down(containing, texts, other_containing, other_texts):
    own, other = containing / texts, other_containing / other_texts
    return own * math.log(other / own)


def in_bits(containing, texts, other_containing, other_texts):
    own, other = containing / texts, other_containing / other_texts
    return own * math.log2(own / other)


def together(p, q, r, s):
    return (p * r + q * s) / 2


def blind(p, q, r, s):
    return (p + q) / 2


def turned(p, q, r, s):
    return (p * s + q * r) / (r + s)


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.3.a", unweighted, "a rare word would win"),
        ("7.3.a", upside_down, "above the bar"),
        ("7.3.a", in_bits, "natural logarithm"),
        ("7.3.b", together, "divide by how often"),
        ("7.3.b", blind, "says something about the polarity"),
        ("7.3.b", turned, "weigh the pivot's two shares"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
