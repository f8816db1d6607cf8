"""The notebooks of the book and what they left in `figures/` are as the book promises."""

import ast
import functools
import json
import tomllib
from pathlib import Path

import pytest

from mtlbook.book import claims as ledger
from mtlbook.book import replication
from mtlbook.book.ledger import frame
from mtlbook.book.runner.report import summary
from tests.ledger_hygiene import figure_faults, ledger_faults, replication_faults
from tests.notebook_hygiene import CHECKS, Book, Check, checks, copies, shown
from tests.project import PACKAGE, ROOT, notebooks, package_modules

FIGURES = ROOT / "figures"
LEDGERS = ("claims.json", replication.FILE)


@functools.cache
def read(path: Path) -> Book:
    return Book.read(ROOT, path)


@pytest.fixture(scope="module")
def books() -> list[Book]:
    return [read(path) for path in notebooks()]


def test_the_book_has_notebooks() -> None:
    assert notebooks(), "there is no notebook under notebooks/"


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_notebook(check: Check, path: Path) -> None:
    """Each check of `tests/notebook_hygiene.py` on each notebook."""
    book = read(path)
    assert check not in checks(book) or check(book) == []


def test_each_section_has_one_notebook(books: list[Book]) -> None:
    assert len({book.section for book in books}) == len(books)


def test_notebooks_hold_no_copies(books: list[Book]) -> None:
    """What two notebooks need, or a notebook and the package, stands in the package."""
    package = {
        name: [ast.parse(path.read_text(encoding="utf-8"))]
        for name, path in package_modules().items()
    }
    assert copies({str(book.path): book.trees for book in books}, package) == []


def test_figures_are_those_of_the_notebooks(books: list[Book]) -> None:
    files = sorted(path.name for path in FIGURES.glob("*") if path.name not in LEDGERS)
    assert figure_faults(books, files) == []


def test_the_ledger_fits_the_notebooks_and_the_claims(books: list[Book]) -> None:
    claims = tomllib.loads((PACKAGE / "book" / "claims.toml").read_text(encoding="utf-8")).get(
        "claim", []
    )
    records = json.loads((FIGURES / "claims.json").read_text(encoding="utf-8"))
    assert ledger_faults(books, claims, records) == []


def test_the_replication_fits_the_ledger_and_the_claims() -> None:
    claims = tomllib.loads((PACKAGE / "book" / "claims.toml").read_text(encoding="utf-8"))["claim"]
    records = json.loads((FIGURES / "claims.json").read_text(encoding="utf-8"))["claims"]
    replicated = replication.read(FIGURES / replication.FILE)
    assert replication_faults(replicated, records, claims) == []


def test_the_ledger_holds_what_the_notebooks_show(books: list[Book]) -> None:
    """nbval compares what a notebook shows, so that a ledger of an older run is found here."""
    texts = {book.path.as_posix(): "\n".join(shown(book)) for book in books}
    for record in ledger.read(FIGURES / "claims.json"):
        effect = ledger.effect_text(
            record["effect"], record["low"], record["high"], ledger.claims()[record["id"]].unit
        )
        assert f"{record['verdict']}: {effect}" in texts[record["notebook"]], record["id"]


def test_the_readme_holds_the_counts_of_the_ledger() -> None:
    records = ledger.read(FIGURES / "claims.json")
    found = frame(records, replication.read(FIGURES / replication.FILE))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert summary(found).strip() in readme, "write it again: mtlbook report --update"
