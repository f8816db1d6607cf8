"""What Sphinx reads: the notebooks as they are, a front page, and the library's API."""

import math
import re
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from mtlbook.book.runner.book import Book, order
from mtlbook.book.runner.cells import read_cells
from mtlbook.book.site import api

FRONT = """\
# The overview of multi-task learning, executed

The companion to Sebastian Ruder's
[*An Overview of Multi-Task Learning in Deep Neural Networks*](https://arxiv.org/abs/1706.05098)
(2017). Each page is a notebook on one section of the overview: it implements the section's methods
and tests what the overview says by experiments over many seeds. A verdict is computed from the
results, never written by hand.

What the pages show is what their notebooks hold; a link on top of each page opens its notebook, so
that you can run it yourself and turn its dials.
"""
LIBRARY = "api/index"
LINKED_FILE = re.compile(r"\]\((\.\.?/[^)\s#]+)")


def write(book: Book, folder: Path) -> None:
    """Write the folder that Sphinx reads."""
    folder.mkdir(parents=True)
    copy_notebooks(book, folder)
    _copy_linked_files(book, folder)
    api.write(folder / "api")
    (folder / "index.md").write_text(_front(book), encoding="utf-8")


def pages(book: Book) -> list[Path]:
    """The book's notebooks below their folder: the chapters as in the paper, then any others.

    A page on a whole chapter closes it.
    """
    ordered = sorted(book.chapters, key=lambda chapter: _place(order(chapter.section)))
    chapters = [chapter.path for chapter in ordered]
    hidden = (path for path in book.notebooks.rglob(".*/*.ipynb"))
    others = {*book.notebooks.rglob("*.ipynb")} - {*chapters} - {*hidden}
    return [path.relative_to(book.notebooks) for path in (*chapters, *sorted(others))]


def _place(section: tuple[int, ...]) -> tuple[float, ...]:
    return section if len(section) > 1 else (*section, math.inf)


def copy_notebooks(book: Book, folder: Path) -> None:
    """Copy the notebooks into `notebooks/` of a folder, byte by byte."""
    for page in pages(book):
        target = folder / "notebooks" / page
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(book.notebooks / page, target)


def _copy_linked_files(book: Book, folder: Path) -> None:
    """Copy the files of the clone that a notebook links to; a page then offers them."""
    root = book.notebooks.parent
    for page in pages(book):
        path = book.notebooks / page
        cells = read_cells(path.read_text(encoding="utf-8"))
        text = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
        for name in LINKED_FILE.findall(text):
            file = (path.parent / name).resolve()
            inside = file.is_relative_to(root) and not file.is_relative_to(book.notebooks)
            if inside and file.is_file():
                target = folder / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


def _front(book: Book) -> str:
    return "\n".join([FRONT, *_contents(book)])


def _contents(book: Book) -> Iterator[str]:
    """A table of contents for each chapter: the folders of the notebooks."""
    for folder, of_chapter in groupby(pages(book), key=lambda page: page.parent):
        documents = [f"notebooks/{page.with_suffix('').as_posix()}" for page in of_chapter]
        yield _tree(chapter_title(folder.name), documents)
    yield _tree("The library", [LIBRARY])


def _tree(caption: str, documents: list[str]) -> str:
    options = [f":caption: {caption}"] if caption else []
    return "\n".join(["```{toctree}", ":maxdepth: 1", *options, "", *documents, "```", ""])


def chapter_title(folder: str) -> str:
    """`3_sharing_methods` as "3 Sharing methods"; nothing for the notebooks' own folder."""
    number, _, words = folder.partition("_")
    title = words.replace("_", " ").replace("non neural", "non-neural")
    return f"{number} {title[:1].upper()}{title[1:]}".strip()
