"""The exercises of section 3.1: likely mistakes meet a hint."""

import numpy as np
import pytest
import torch

from mtlbook.book import exercises


def least_squares(x, y):
    return torch.linalg.lstsq(x, y[:, None]).solution[:, 0]


WRONG = {
    "3.1.a": [
        (lambda d, k, n: (d * k + n * k, n * (d * k + k)), "biases"),
        (lambda d, k, n: (d * k + k + k + 1, n * (d * k + k + k + 1)), "head of its own"),
        (lambda d, k, n: (n * ((d + 1) * k + k + 1), (d + 1) * k + n * (k + 1)), "first"),
        (lambda d, k, n: ((d + 1) * k + n * (k + 1),) * 2, "share nothing"),
        (lambda d, k, n: ((d + 1) * k + n * (k + 1), n), "the counts are"),
    ],
    "3.1.b": [
        (lambda n, e: tuple(np.polyfit(1 / np.array(n), e, 1)), "endless tasks"),
        (lambda n, e: tuple(np.polyfit(n, e, 1)[::-1]), "linear in 1/N"),
        (lambda n, e: (2 * e[1] - e[0], 2 * (e[0] - e[1])), "all points"),
    ],
    "3.1.c": [
        (lambda x, y, owner: least_squares(x - x.mean(0), y - y.mean()), "pooling without codes"),
        (lambda x, y, owner: least_squares(x, y), "subtract"),
        (lambda x, y, owner: y.mean(), "2 inputs"),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [(name, answer, hint) for name, wrong in WRONG.items() for answer, hint in wrong],
)
def test_a_wrong_answer_meets_a_hint(name, answer, hint):
    assert hint in (exercises.get(name).hint(answer) or "")


def test_the_numbers_of_a_network_are_counted():
    layers = torch.nn.Linear(7, 5), *(torch.nn.Linear(5, 1) for _ in range(3))
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    shared, separate = exercises.get("3.1.a").reference(7, 5, 3)
    assert (shared, separate) == (sum(counts), 3 * (counts[0] + counts[1]))


@pytest.mark.parametrize(("answer", "agrees"), [("falls", True), ("stays", False)])
def test_a_prediction_is_told_what_was_found(answer: str, agrees: bool):
    assert (exercises.get("3.1.d").hint(answer) is None) == agrees
