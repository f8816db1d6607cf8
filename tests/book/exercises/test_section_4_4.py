import math

import pytest

from mtlbook.book import exercises


def only_the_middle(c):
    return [c / 2]


def around_zero(c):
    left = 1 - 3 * c**2 / 4
    return [-math.sqrt(left), math.sqrt(left)] if left > 0 else [c / 2]


def with_the_maximum(c):
    left = 1 - 3 * c**2 / 4
    return [c / 2 - math.sqrt(left), c / 2, c / 2 + math.sqrt(left)] if left > 0 else [c / 2]


def descending(c):
    left = 1 - 3 * c**2 / 4
    return [c / 2 + math.sqrt(left), c / 2 - math.sqrt(left)] if left > 0 else [c / 2]


def split_at_one(c):
    left = 1 - 3 * c**2 / 4
    return [c / 2 - math.sqrt(left), c / 2 + math.sqrt(left)] if c < 1 else [c / 2]


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("4.4.a", lambda c: [-1.0, 1.0], "one minimum in common"),
        ("4.4.a", only_the_middle, "two minima survive"),
        ("4.4.a", with_the_maximum, "a maximum between"),
        ("4.4.a", around_zero, "on either side of c/2"),
        ("4.4.a", descending, "ascending"),
        ("4.4.a", split_at_one, "c = 1.1"),
        ("4.4.b", lambda u, w: (w.T @ u).square().sum(), "the share is 1"),
        ("4.4.b", lambda u, w: (w.T @ u).norm() / 2, "square of the cosine"),
        ("4.4.b", lambda u, w: (w.T @ u).square().sum() / w.shape[1], "a quarter"),
        ("4.4.b", lambda u, w: (w.T @ u).abs().max() ** 2, "a quarter"),
        ("4.4.c", lambda a, b, s: math.ceil(b / s), "relative to the floor"),
        ("4.4.c", lambda a, b, s: math.ceil(b / (a * (1 + s))), "at most s"),
        ("4.4.c", lambda a, b, s: round(b / (s * a)), "rounding down"),
        ("4.4.c", lambda a, b, s: math.ceil(b / (s * a)), "at least one task"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
