"""The table of everything that the book found."""

from pathlib import Path
from typing import Any

import pytest

from mtlbook.book import claims, ledger, replication
from mtlbook.book.claims import Claim
from mtlbook.book.replication import Replication


def record(key: str, data: str = "digits", **changes: object) -> Any:
    return {
        "id": key, "section": key.split("-")[0], "statement": "It helps.", "effect": 1.0,
        "low": 0.5, "high": 1.5, "p": 0.01, "smallest": 0.1, "seeds": 16, "verdict": "supported",
        "data": data, "notebook": "n", "role": "real data",
    } | changes  # fmt: skip


def again(key: str, data: str = "digits", **changes: object) -> Any:
    return record(key, data, **{"seeds": 64, "effect": 2.0, "p": 0.001} | changes)


@pytest.fixture(autouse=True)
def stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """One claim that is stated, whatever the book states."""
    one = Claim(
        id="3.1-a", section="3.1", statement="It helps.", source="Ruder, section 3.1",
        method="sharing", baseline="one network a task", metric="error", better="lower",
        smallest=0.1, relative=True, quote="It greatly reduces the risk.",
        roles={"digits": "real data"},
    )  # fmt: skip
    monkeypatch.setattr(claims, "claims", lambda: {"3.1-a": one})


def test_the_books_verdict_is_that_of_the_replication_where_there_is_one() -> None:
    replicated = Replication().with_page("3.1", "", [again("3.1-a"), again("3.1-gone")])
    frame = ledger.frame([record("3.10-b", seeds=8), record("3.1-a")], replicated)
    assert frame["id"].tolist() == ["3.1-a", "3.10-b"]
    assert frame["effect"].tolist() == [2.0, 1.0]
    assert frame["seeds"].tolist() == [64, 8]
    assert frame["page_effect"].tolist() == [1.0, 1.0]
    assert frame["replication_effect"].tolist()[0] == 2.0
    assert frame["replication_effect"].isna().tolist() == [False, True]
    assert frame["replication_verdict"].tolist() == ["supported", ""]
    assert frame["agreement"].tolist() == ["same verdict", "not replicated"]
    assert frame["quote"].tolist() == ["It greatly reduces the risk.", ""]
    assert frame["source"].tolist() == ["Ruder, section 3.1", ""]
    assert frame["unit"].tolist() == ["%", ""]
    assert frame["p_holm"].tolist() == pytest.approx([0.002, 0.01])  # over the book's verdicts


@pytest.mark.parametrize(
    ("page", "replicated", "agreement"),
    [
        ("supported", "supported", "same verdict"),
        ("supported", "slight", "other verdict"),
        ("undecided", "harmful", "other verdict"),
        ("supported", "refuted", "opposite verdict"),
        ("harmful", "supported", "opposite verdict"),
        ("passed", "failed", "opposite verdict"),
    ],
)
def test_agreement_is_that_of_the_verdicts(page: str, replicated: str, agreement: str) -> None:
    found = Replication().with_page("3.1", "", [again("3.1-a", verdict=replicated)])
    frame = ledger.frame([record("3.1-a", verdict=page)], found)
    assert frame["agreement"].tolist() == [agreement]


def test_a_recorded_study_replicates_nothing() -> None:
    one = record("3.1-a", "School", seeds=30)
    frame = ledger.frame([one], Replication().with_page("3.1", "", [one]))
    assert frame["agreement"].tolist() == ["one study"]


def test_verdicts_are_counted_by_role_in_their_own_order() -> None:
    records = [
        record("3.1-a", "one", verdict="harmful"),
        record("3.1-a", "two"),
        record("3.1-a", "three", role="mechanism present"),
        record("3.1-c", verdict="passed", role="mechanism off"),
    ]
    table = ledger.counts(ledger.frame(records, Replication()))
    assert table.index.tolist() == ["supported", "harmful", "passed"]
    assert table.columns.tolist() == ["mechanism present", "mechanism off", "real data"]
    assert table.loc["supported"].tolist() == [1, 0, 1]
    assert table.to_numpy().sum() == 4


def test_an_empty_ledger_is_an_empty_table() -> None:
    frame = ledger.frame([], Replication())
    assert len(frame) == 0
    assert {"page_verdict", "replication_low", "agreement", "quote"} <= set(frame.columns)
    assert ledger.counts(frame).empty


def test_the_ledger_is_that_of_the_run_or_the_committed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebooks, output = tmp_path / "clone" / "notebooks", tmp_path / "output"
    notebooks.mkdir(parents=True)
    (tmp_path / "clone" / "pyproject.toml").touch()
    monkeypatch.chdir(notebooks)
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(output))
    assert ledger.read() == []
    figures = tmp_path / "clone" / "figures"
    claims.write(figures / "claims.json", [record("3.1-a")])
    replication.merge(figures / "replication.json", "3.1", "", [again("3.1-a")])
    assert ledger.read() == [record("3.1-a")]
    assert ledger.frame()["effect"].tolist() == [2.0]
    claims.write(output / "claims.json", [record("3.1-b")])
    assert ledger.read() == [record("3.1-b")]
