"""The study of the league, on a small world and few steps."""

import json

import numpy as np
import pytest

from mtlbook.book.experiments.league import CONTESTANTS
from mtlbook.book.experiments.league_results import read
from mtlbook.book.studies import Record
from mtlbook.book.studies import league as study
from tests.book.test_league import SEEDS, small

FEW = ("single-task", "hard sharing", "cross-stitch")


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Three contestants in one small world, and a folder for it."""
    monkeypatch.setattr(study, "CONTESTANTS", {name: CONTESTANTS[name] for name in FEW})
    monkeypatch.setattr(study, "WORLDS", {"small": small})
    monkeypatch.setattr(study, "kept_in", lambda: tmp_path)
    return tmp_path


def test_a_row_for_each_result_and_cost(few):
    found = study.run(SEEDS, "cpu", steps=4)
    assert found.columns.tolist() == ["seed", "world", "method", "task", "metric", "value"]
    counts = found.groupby("metric").size().to_dict()
    once = dict.fromkeys(["validation", "parameters", "inference", "training"], 3)
    assert counts == {"loss": 2 * 3 * 3, "loss at equal FLOPs": 2 * 3} | once
    assert np.isfinite(found["value"]).all()
    rows = found.to_dict("records")
    record = Record("league", "6.9", list(SEEDS), {}, {}, rows)
    results = read(record, {"small": small})
    assert results.methods == FEW
    # Single-task networks have the same steps by either budget.
    single = results.relative_loss("single-task", "small")
    np.testing.assert_allclose(results.equal_flops["small"][0], single, rtol=2e-3)
    assert results.validation["small"][0] == 1.0


def test_a_world_that_was_played_is_not_played_again(few, monkeypatch):
    first = study.run(SEEDS, "cpu", steps=2)
    (kept,) = few.iterdir()
    assert len(json.loads(kept.read_text())) == len(first)

    def forbidden(*_):
        raise AssertionError("played again")

    monkeypatch.setattr(study, "results", forbidden)
    assert study.run(SEEDS, "cpu", steps=2).equals(first)
    with pytest.raises(AssertionError, match="again"):
        study.run(SEEDS, "cpu", steps=3)
