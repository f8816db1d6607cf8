from pathlib import Path

import pytest

from mtlbook.book.runner.book import find_notebooks, open_book, order, section_of, select
from mtlbook.errors import UsageError
from tests.tiny_book import chapter, ledger_page


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("3_1_hard_parameter_sharing.ipynb", "3.1"),
        ("1_from_one_task_to_many.ipynb", "1"),
        ("6_10_2_deep.ipynb", "6.10.2"),
        ("notes.ipynb", None),
        ("2017_3.ipynb", None),
    ],
)
def test_the_section_is_the_leading_numbers_of_the_name(name: str, section: str | None) -> None:
    assert section_of(Path(name)) == section


def test_sections_are_ordered_as_numbers() -> None:
    assert sorted(["3.10", "10", "3.9", "3"], key=order) == ["3", "3.9", "3.10", "10"]


def test_a_book_is_found_upward_and_read_in_order(clone: Path) -> None:
    for section in ("3.10", "3.9", "1"):
        chapter(clone / "notebooks", section)
    chapter(clone / "notebooks/.ipynb_checkpoints", "4")
    (clone / "notebooks/3_part/notes.ipynb").write_text("not a chapter")
    deep = clone / "notebooks" / "3_part"
    book = open_book(find_notebooks(deep))
    assert book.root == clone
    assert book.requirements == b"torch==2.13.0\n"
    assert [one.section for one in book.chapters] == ["1", "3.9", "3.10"]
    assert book.chapters[0].title == "Title of 1"
    assert book.chapters[0].parameters == {
        "seeds": 4, "first_seed": 0, "device": "cpu", "dataset": "tiny",
    }  # fmt: skip


def test_a_folder_outside_a_clone_is_a_book_too(tmp_path: Path) -> None:
    chapter(tmp_path / "mine", "3.1")
    book = open_book(tmp_path / "mine")
    assert book.root is None
    assert book.requirements == b""


def test_a_section_selects_what_lies_below_it(clone: Path) -> None:
    for section in ("1", "3.1", "3.2", "3.10"):
        chapter(clone / "notebooks", section)
    chapters = open_book(clone / "notebooks").chapters
    selected = {
        asked: [one.section for one in select(chapters, asked.split())]
        for asked in ("", "3", "3.1", "3.1 1", "3 3.1")
    }
    assert selected == {
        "": ["1", "3.1", "3.2", "3.10"],
        "3": ["3.1", "3.2", "3.10"],
        "3.1": ["3.1"],
        "3.1 1": ["1", "3.1"],
        "3 3.1": ["3.1", "3.2", "3.10"],
    }


def test_a_page_in_the_root_is_listed_first_and_selected_by_its_section(clone: Path) -> None:
    for section in ("1", "10"):
        chapter(clone / "notebooks", section)
    root = ledger_page(clone / "notebooks", "0")
    assert root.parent == clone / "notebooks"
    chapters = open_book(clone / "notebooks").chapters
    assert [one.section for one in chapters] == ["0", "1", "10"]
    assert [one.section for one in select(chapters, ["0"])] == ["0"]
    assert [one.section for one in select(chapters, ["1"])] == ["1"]
    assert [one.section for one in select(chapters, [str(root)])] == ["0"]


@pytest.mark.parametrize(
    ("cell", "reads"),
    [
        ("frame = page.ledger()", True),
        ("%time\ntable = page.ledger().query('section == \"1\"')", True),
        ("# page.ledger()", False),
        ("'page.ledger()'", False),
        ("ledger()", False),
        ("page.ledger() = (", False),
    ],
)
def test_a_page_says_in_its_code_that_it_reads_the_ledger(
    cell: str, reads: bool, clone: Path
) -> None:
    chapter(clone / "notebooks", "1", cell)
    [page] = open_book(clone / "notebooks").chapters
    assert page.reads_ledger == reads


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("3.1 Hard parameter sharing", "Hard parameter sharing"),
        ("§ 3.1: Hard sharing", "Hard sharing"),
        ("3.1", "3.1"),
        ("3.10 Other", "3.10 Other"),
        ("3.1.2 Deeper", "3.1.2 Deeper"),
        ("Sharing, as in 3.1 of the overview", "Sharing, as in 3.1 of the overview"),
    ],
)
def test_a_title_is_shown_without_its_sections_number(
    heading: str, title: str, clone: Path
) -> None:
    path = chapter(clone / "notebooks", "3.1")
    path.write_text(path.read_text().replace("# Title of 3.1", f"# {heading}"))
    [page] = open_book(clone / "notebooks").chapters
    assert page.title == title


def test_a_path_or_name_selects_one_notebook(clone: Path) -> None:
    page = chapter(clone / "notebooks", "3")
    chapter(clone / "notebooks", "3.1")
    chapters = open_book(clone / "notebooks").chapters
    for asked in (str(page), page.name, page.stem):
        assert [one.section for one in select(chapters, [asked])] == ["3"]
    with pytest.raises(UsageError, match=r"no section '3\.2'; the sections are 3, 3\.1"):
        select(chapters, ["3.2"])


def test_a_broken_book_is_told(clone: Path) -> None:
    notebooks = clone / "notebooks"
    with pytest.raises(UsageError, match="holds no chapter"):
        open_book(notebooks)
    path = chapter(notebooks, "3.1", parameters="seeds = some_function()")
    with pytest.raises(UsageError, match="plain assignments"):
        open_book(notebooks)
    path.write_text("{")
    with pytest.raises(UsageError, match="not a readable notebook"):
        open_book(notebooks)
    chapter(notebooks, "3.1")
    (notebooks / "3_1_again.ipynb").write_text(path.read_text())
    with pytest.raises(UsageError, match=r"two notebooks are section 3\.1"):
        open_book(notebooks)
