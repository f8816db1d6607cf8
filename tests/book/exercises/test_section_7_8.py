import math

import pytest
import torch

from mtlbook.book import exercises
from mtlbook.book.exercises.section_7_8 import least_loss


def itself(tokens, mask):
    return tokens


def around_the_end(tokens, mask):
    return tokens.roll(-1, 1)


def padding_predicted(tokens, mask):
    return torch.cat([tokens[:, 1:], torch.full((len(tokens), 1), -100)], 1)


def previous(tokens, mask):
    return torch.cat([torch.full((len(tokens), 1), -100), tokens[:, :-1]], 1)


def in_bits(sharpness, states, words):
    return least_loss(sharpness, states, words) / math.log(2)


def states_only(sharpness, states, words):
    return least_loss(sharpness, states, 1)


def never_by_the_draw(sharpness, states, words):
    if sharpness in (0.0, 1.0):
        return math.log(words) + (1 - sharpness) * math.log(states)
    other = (1 - sharpness) / (states - 1)
    entropy = -sharpness * math.log(sharpness) - (1 - sharpness) * math.log(other)
    return entropy + math.log(words)


def no_zero(sharpness, states, words):
    return math.nan


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.8.a", itself, "the word behind it"),
        ("7.8.a", around_the_end, "its first"),
        ("7.8.a", padding_predicted, "padding is no word"),
        ("7.8.a", previous, "3 8 2"),
        ("7.8.a", lambda tokens, mask: tokens[:, 1:], "a place for each word"),
        ("7.8.b", in_bits, "in bits"),
        ("7.8.b", states_only, "entropy of its words"),
        ("7.8.b", never_by_the_draw, "by the draw from all"),
        ("7.8.b", no_zero, "0 · log 0"),
        ("7.8.c", lambda width, hidden, classes: hidden * (width + classes), "one head"),
        ("7.8.c", lambda width, hidden, classes: 4 * hidden * (width + classes), "counts once"),
        ("7.8.c", lambda width, hidden, classes: 2 * width * classes, "tanh layer, not the state"),
        ("7.8.c", lambda width, hidden, classes: 2 * hidden * classes, "per head"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
