"""Pages that are made from the ledger: they run last, and see what the others have just found."""

import json
from pathlib import Path

import nbformat
import pytest

from mtlbook.book import replication
from tests.tiny_book import Cli, chapter, files, ledger_page


@pytest.fixture
def book(clone: Path) -> Path:
    """Two pages that record a claim, and two that show the ledger: the first and the last."""
    for section in ("3.1", "3.2"):
        chapter(clone / "notebooks", section)
    for section in ("0", "10"):
        ledger_page(clone / "notebooks", section)
    return clone


def shown(path: Path) -> str:
    """What the code of an executed ledger page printed."""
    return nbformat.read(path, as_version=4).cells[1].outputs[0].text.strip()


def replicate(clone: Path, section: str, effect: float) -> None:
    record = {
        "id": f"c{section}", "section": section, "statement": "it helps", "effect": effect,
        "low": 0.5, "high": 1.5, "p": 0.01, "smallest": 0.1, "seeds": 64, "verdict": "supported",
        "data": "tiny", "notebook": "n", "role": "real data",
    }  # fmt: skip
    replication.merge(clone / "figures" / "replication.json", section, "code", [record])  # type: ignore[list-item]


def ran(mtlbook: Cli) -> list[str]:
    """The sections that the latest run executed, in the order in which they started."""
    return [one.split()[0] for one in mtlbook.out.splitlines() if one.endswith(": started")]


def test_they_run_last_and_are_right_after_one_command(book: Path, mtlbook: Cli) -> None:
    first = book / "notebooks" / "0_title.ipynb"
    assert mtlbook("run", "--update", "--jobs", "1") == 0
    assert sorted(ran(mtlbook)[:2]) == ["3.1", "3.2"]
    assert sorted(ran(mtlbook)[2:]) == ["0", "10"]
    assert shown(first) == "['c3.1 with 4 seeds', 'c3.2 with 4 seeds'] []"
    assert shown(book / "notebooks/10_part/10_title.ipynb") == shown(first)
    assert files(book / "figures") == {"claims.json", "3_1_effect.png", "3_2_effect.png"}
    assert mtlbook("run", "--update") == 0
    assert ran(mtlbook) == []

    page = book / "notebooks" / "3_part" / "3_2_title.ipynb"
    page.write_text(page.read_text().replace("seeds = 4", "seeds = 5"))
    assert mtlbook("run", "--update", "--jobs", "1") == 0
    assert ran(mtlbook)[0] == "3.2"
    assert sorted(ran(mtlbook)[1:]) == ["0", "10"]
    assert shown(first) == "['c3.1 with 4 seeds', 'c3.2 with 5 seeds'] []"


def test_alone_they_show_the_committed_ledger(book: Path, mtlbook: Cli) -> None:
    assert mtlbook("run", "3", "--update", "--output", "once") == 0
    assert mtlbook("run", "0") == 0
    assert shown(book / "build/notebooks/0_title.ipynb") == (
        "['c3.1 with 4 seeds', 'c3.2 with 4 seeds'] []"
    )
    assert mtlbook("run", "0", "3.1", "--seeds", "7") == 0  # a parameter that it has not
    assert shown(book / "build/notebooks/0_title.ipynb") == (
        "['c3.1 with 7 seeds', 'c3.2 with 4 seeds'] []"
    )
    assert mtlbook("run", "0", "--seeds", "7") == 2
    assert "section 0 has no parameter 'seeds'" in mtlbook.err


def test_a_replication_outdates_the_pages_that_show_it(book: Path, mtlbook: Cli) -> None:
    assert mtlbook("run") == 0
    replicate(book, "3.1", effect=1.0)
    assert mtlbook("run", "--jobs", "1") == 0
    assert ran(mtlbook)[0] == "3.1"
    assert sorted(ran(mtlbook)[1:]) == ["0", "10"]
    assert shown(book / "build/notebooks/0_title.ipynb").endswith(" ['3.1']")
    replicate(book, "3.1", effect=2.0)
    assert mtlbook("run", "--jobs", "1") == 0
    assert ran(mtlbook)[0] == "3.1"
    assert sorted(ran(mtlbook)[1:]) == ["0", "10"]
    names = book / "notebooks/3_part/3_2_title.ipynb"
    names.write_text(names.read_text().replace("# Title", "Beside c3.1.\\n\\n# Title"))
    assert mtlbook("run") == 0
    replicate(book, "3.1", effect=3.0)
    assert mtlbook("run", "--jobs", "1") == 0
    assert sorted(ran(mtlbook)[:2]) == ["3.1", "3.2"]
    assert sorted(ran(mtlbook)[2:]) == ["0", "10"]


def test_a_failed_page_leaves_what_is_committed_of_it(book: Path, mtlbook: Cli) -> None:
    assert mtlbook("run", "--update") == 0
    chapter(book / "notebooks", "3.1", "raise ValueError")
    page = book / "notebooks" / "3_part" / "3_2_title.ipynb"
    page.write_text(page.read_text().replace("seeds = 4", "seeds = 5"))
    assert mtlbook("run", "--update") == 1
    wanted = "['c3.1 with 4 seeds', 'c3.2 with 5 seeds'] []"
    assert shown(book / "notebooks" / "0_title.ipynb") == wanted


def test_a_damaged_ledger_is_told_before_anything_runs(book: Path, mtlbook: Cli) -> None:
    (book / "figures").mkdir()
    (book / "figures" / "claims.json").write_text(json.dumps({"claims": [{"id": "c"}]}))
    assert mtlbook("run", "--update") == 2
    assert "claims.json" in mtlbook.err
    assert not (book / "build").exists()
