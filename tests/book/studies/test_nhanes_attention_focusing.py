"""The study of attention focusing, at a tiny size on constructed people."""

import math

import pytest

from mtlbook.book.studies import nhanes_attention_focusing as study
from tests.book.studies.stand_ins import people

METHODS = {"alone", "with the answers", "with copies", "with answers of others"}
METRICS = {
    "area under the curve",
    "average precision",
    "loss",
    "share of weights",
    "share of sensitivity",
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(study, "EXAMPLES", (60, 80))
    monkeypatch.setattr(study, "VALIDATION", 40)
    monkeypatch.setattr(study, "TEST", 80)
    monkeypatch.setattr(study, "STEPS", 60)
    monkeypatch.setattr(study, "TRIALS", study.TRIALS[1:3])


def mean(results, **rows):
    for column, value in rows.items():
        results = results[results[column] == value]
    return results.value.mean()


@pytest.mark.usefixtures("tiny")
def test_on_people_whose_answers_decide_everybody_finds_the_inputs(monkeypatch):
    monkeypatch.setattr(study.nhanes, "load", people)
    results = study.run([0, 1], "cpu")
    assert list(results.columns) == ["examples", "method", "seed", "metric", "value"]
    assert len(results) == 2 * 4 * 2 * 5
    assert set(results.method) == METHODS
    assert set(results.metric) == METRICS
    assert results.value.map(math.isfinite).all()
    for method in METHODS:
        assert mean(results, method=method, metric="area under the curve") > 0.8
        assert mean(results, method=method, metric="share of sensitivity") > 0.6
    # The answers of others pull the shared layer's weight to the others' measures.
    weight = {m: mean(results, method=m, metric="share of weights") for m in METHODS}
    assert weight["with the answers"] > 0.8
    assert weight["with answers of others"] < 0.6
