from itertools import pairwise

import numpy as np
import pytest

from mtlbook.book import exercises


def directly(tables, y):
    return np.linalg.lstsq(tables[0], y, rcond=None)[0]


def backwards(tables, y):
    steps = [np.linalg.lstsq(a, b, rcond=None)[0] for a, b in pairwise(tables)]
    theta = np.linalg.lstsq(tables[-1], y, rcond=None)[0]
    for step in steps:
        theta = np.resize(step.T, (4, len(theta))) @ theta
    return np.resize(theta, 4)


def of_the_last_step(tables, y):
    return np.linalg.lstsq(tables[-1], y, rcond=None)[0]


def with_a_leak(known, due, outcome):
    return sorted(name for name in known if name != outcome), []


def with_the_outcome(known, due, outcome):
    return (
        sorted(name for name, day in known.items() if day <= due),
        sorted(name for name, day in known.items() if day > due),
    )


def too_strict(known, due, outcome):
    return (
        sorted(name for name, day in known.items() if day < due and name != outcome),
        sorted(name for name, day in known.items() if day > due and name != outcome),
    )


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.7.a", directly, "go through each later table"),
        ("7.7.a", backwards, "in the order of time"),
        ("7.7.a", of_the_last_step, "each of the 4 columns"),
        ("7.7.b", with_a_leak, "would be a leak"),
        ("7.7.b", with_the_outcome, "neither an input nor"),
        ("7.7.b", too_strict, "on the day itself"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
