"""The study of the small digit of MNIST, on made-up images."""

import numpy as np
import pytest

from mtlbook.book.data import small_digit
from mtlbook.book.studies import small_mnist_digit as study
from mtlbook.data.multi_task_data import Consecutive
from tests.book.studies.stand_ins import digits

SEEDS = [0, 1]
METHODS = {"single-task", "beside the cue", "shuffled", "other cue", "oracle"}


@pytest.fixture
def results(monkeypatch):
    monkeypatch.setattr(small_digit.mnist, "load", lambda: digits(train=300, test=100, side=28))
    monkeypatch.setattr(study, "SPLIT", Consecutive(train=60, validation=30, test=40))
    return study.run(SEEDS, "cpu", steps=4)


def test_the_whole_study_at_a_tiny_size(results):
    assert results.columns.tolist() == ["seed", "method", "metric", "value"]
    assert set(results.method) == METHODS
    assert set(results.metric) == {"error", "decoupled error", "cue share"}
    assert len(results) == len(SEEDS) * len(METHODS) * 3
    assert results.value.between(0, 1).all()
    errors = results.value[results.metric != "cue share"]
    # Shares of the 40 test images.
    np.testing.assert_allclose(40 * errors, (40 * errors).round(), atol=1e-9)


def test_the_oracle_looks_at_the_cue_and_does_not_see_the_large_digit(results):
    own = results[results.method == "oracle"].pivot_table("value", "seed", "metric")
    np.testing.assert_allclose(own["cue share"], 1.0)
    np.testing.assert_allclose(own["error"], own["decoupled error"])
