"""`mtlbook replicate`: what is recorded, what is skipped, and what is told of the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.book.runner.test_ledger_pages import ran
from tests.tiny_book import Cli, chapter, files, ledger_page


@pytest.fixture
def book(clone: Path) -> Path:
    for section in ("3.1", "3.2"):
        chapter(clone / "notebooks", section)
    ledger_page(clone / "notebooks", "0")
    return clone


def pages(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["pages"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_page_is_recorded_with_other_seeds_and_once(book: Path, mtlbook: Cli) -> None:
    committed = files(book)
    assert mtlbook("replicate") == 0
    assert sorted(ran(mtlbook)) == ["3.1", "3.2"]
    found = pages(book / "figures" / "replication.json")
    assert list(found) == ["3.1", "3.2"]
    assert [one["seeds"] for page in found.values() for one in page["claims"]] == [64, 64]
    record = json.loads((book / "build/replication/runs/3.1.json").read_text())
    assert record["parameters"] == {"seeds": 64, "first_seed": 100_000}
    assert record["fingerprint"] == found["3.1"]["fingerprint"]
    made = files(book) - committed - {"figures/replication.json"}
    assert made
    assert all(name.startswith("build/replication/") for name in made)

    before = (book / "figures" / "replication.json").read_bytes()
    assert mtlbook("replicate") == 0
    assert ran(mtlbook) == []
    assert "3.1 Title of 3.1: replicated" in mtlbook.out
    assert mtlbook("replicate", "3.1", "--fresh") == 0
    assert ran(mtlbook) == ["3.1"]
    assert (book / "figures" / "replication.json").read_bytes() == before


def test_a_page_is_replicated_again_when_its_code_changes_and_not_for_its_words(
    book: Path, mtlbook: Cli
) -> None:
    assert mtlbook("replicate") == 0
    edit(book / "notebooks/3_part/3_1_title.ipynb", "Title of 3.1", "Other words of 3.1")
    assert mtlbook("replicate") == 0
    assert ran(mtlbook) == []
    edit(book / "notebooks/3_part/3_1_title.ipynb", "effect=1.0", "effect=2.0")
    assert mtlbook("replicate") == 0
    assert ran(mtlbook) == ["3.1"]
    found = pages(book / "figures" / "replication.json")
    assert [page["claims"][0]["effect"] for page in found.values()] == [2.0, 1.0]
    (book / "notebooks/3_part/3_2_title.ipynb").unlink()
    assert mtlbook("replicate", "--fresh") == 0
    assert list(pages(book / "figures" / "replication.json")) == ["3.1"]


def test_a_failing_page_stops_no_other_and_an_unrecorded_run_is_not_repeated(
    book: Path, mtlbook: Cli
) -> None:
    chapter(book / "notebooks", "3.3", "raise ValueError('bad')")
    assert mtlbook("replicate") == 1
    assert "3.3 Title of 3.3 failed in code cell 3: ValueError: bad" in mtlbook.err
    recorded = (book / "figures" / "replication.json").read_bytes()
    assert list(json.loads(recorded)["pages"]) == ["3.1", "3.2"]
    (book / "figures" / "replication.json").unlink()  # as if it ended between two writes
    assert mtlbook("replicate", "3.1", "3.2") == 0
    assert ran(mtlbook) == []
    assert mtlbook.out.count("up to date") >= 2
    assert (book / "figures" / "replication.json").read_bytes() == recorded


def test_what_other_seeds_find_is_not_the_books(book: Path, mtlbook: Cli) -> None:
    assert mtlbook("replicate", "3.1", "--seeds", "9") == 0
    assert not (book / "figures").exists()
    found = pages(book / "build" / "replication" / "replication.json")
    assert [one["seeds"] for one in found["3.1"]["claims"]] == [9]
    assert mtlbook("replicate", "3.1", "--first-seed", "7000", "--output", "pilot") == 0
    assert list(pages(book / "pilot" / "replication.json")) == ["3.1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0"], "record no claims"),
        (["9"], "no section '9'"),
        (["--seeds", "1"], "seeds = 1"),
        (["--seeds", "many"], "--seeds"),
        (["--output", "pyproject.toml/x"], "cannot write"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], words: str, book: Path, mtlbook: Cli
) -> None:
    before = files(book)
    assert mtlbook("replicate", *arguments) == 2
    assert words in mtlbook.err
    assert mtlbook.err.count("\n") == 1
    assert files(book) == before


def test_the_report_shows_both_verdicts_and_warns_of_what_is_missing_or_older(
    book: Path, mtlbook: Cli
) -> None:
    assert mtlbook("run", "--update") == 0
    assert mtlbook("report") == 0
    assert mtlbook.err == "mtlbook: not replicated yet: 3.1, 3.2 (mtlbook replicate)\n"
    assert mtlbook.out.count("not replicated") == 2
    assert mtlbook("replicate", "3.1") == 0
    assert mtlbook("report") == 0
    [row] = [line for line in mtlbook.out.splitlines() if " 3.1 " in line]
    assert row.count("supported") == 2
    assert " 64 " in row
    assert "not replicated yet: 3.2 " in mtlbook.err
    assert mtlbook("replicate") == 0
    assert mtlbook("report") == 0
    assert mtlbook.err == ""
    edit(book / "notebooks/3_part/3_1_title.ipynb", "effect=1.0", "effect=2.0")
    assert mtlbook("report") == 0
    assert mtlbook.err.startswith("mtlbook: the replication is older than the code: 3.1 ")
