import numpy as np
import pytest

from mtlbook.book import exercises
from mtlbook.book.exercises.section_7_6 import crossing_noise


def with_the_copy(inputs, columns, training):
    left = [c for c in range(inputs.shape[1]) if c not in columns]
    targets = inputs[:, columns]
    known = targets[training]
    return inputs, (targets - known.mean(0)) / known.std(0, correction=0) + 0 * len(left)


def over_all_rows(inputs, columns, training):
    left = [c for c in range(inputs.shape[1]) if c not in columns]
    targets = inputs[:, columns]
    return inputs[:, left], (targets - targets.mean(0)) / targets.std(0, correction=0)


def not_scaled(inputs, columns, training):
    left = [c for c in range(inputs.shape[1]) if c not in columns]
    return inputs[:, left], inputs[:, columns]


def turned_round(inputs, columns, training):
    left = [c for c in range(inputs.shape[1]) if c not in columns]
    return inputs[:, left[::-1]], inputs[:, columns]


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.6.a", lambda p, n: 1 - p / n, "at the crossing"),
        ("7.6.a", lambda p, n: n / p, "also says something"),
        ("7.6.a", lambda p, n: (n / p - 1) ** 0.5, "the variance"),
        ("7.6.a", lambda p, n: p / n, "equal to"),
        ("7.6.b", with_the_copy, "still among the inputs"),
        ("7.6.b", over_all_rows, "training rows alone"),
        ("7.6.b", not_scaled, "mean 0"),
        ("7.6.b", turned_round, "in this order"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found


def test_the_crossing_is_that_of_simulated_errors():
    """z = g + s ε as an input, and s² p / n, by Monte Carlo at the reference's s²."""
    p, n = 20, 50
    s = crossing_noise(p, n) ** 0.5
    g, e = np.random.default_rng(0).standard_normal((2, 200_000))
    z = g + s * e
    as_input = np.mean((g - z * (g @ z) / (z @ z)) ** 2)
    x = np.random.default_rng(1).standard_normal((400, n, p))
    noise = s * np.random.default_rng(2).standard_normal((400, n))
    slope = np.linalg.solve(x.transpose(0, 2, 1) @ x, (x.transpose(0, 2, 1) @ noise[..., None]))
    as_output = np.mean((x @ slope) ** 2)  # on the training rows: s² p / n in expectation
    assert as_input == pytest.approx(as_output, rel=0.03)
