"""The book on disk: its chapters with their sections, titles and parameters."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtlbook.book import replication
from mtlbook.book.parameters import Rule, read, shown
from mtlbook.book.runner.cells import Cell, read_cells, reads_ledger
from mtlbook.errors import UsageError

SECTION = re.compile(r"(\d+(?:_\d+)*)_(?=\D)")


@dataclass(frozen=True)
class Chapter:
    """One notebook: a section of the paper, its parameters' defaults and their rules.

    A page that `reads_ledger` makes no experiments: it shows what the others found.
    """

    section: str
    title: str
    path: Path
    source: str
    parameters: dict[str, object]
    rules: dict[str, Rule] = field(default_factory=dict)
    reads_ledger: bool = False


@dataclass(frozen=True)
class Book:
    """The notebooks in one folder, and the clone of the repository that holds it, if any."""

    notebooks: Path
    root: Path | None
    chapters: list[Chapter]

    @property
    def figures(self) -> Path | None:
        """The committed figures and ledgers; none where the notebooks lie outside a clone."""
        return self.root / "figures" if self.root else None

    @property
    def replication(self) -> Path | None:
        """The file of the committed replication, whether it is there or not."""
        return self.figures / replication.FILE if self.figures else None

    @property
    def requirements(self) -> bytes:
        """The lock of the dependencies; empty where the notebooks lie outside a clone."""
        lock = self.root / "requirements.txt" if self.root else None
        return lock.read_bytes() if lock and lock.is_file() else b""


def find_notebooks(start: Path) -> Path:
    """The `notebooks/` of the clone that holds `start`, searched upward."""
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder / "notebooks"
    raise UsageError(
        f"{start} lies in no clone of mtlbook, and the package holds no notebooks: "
        "clone the repository and run inside it, or pass --notebooks DIR"
    )


def open_book(notebooks: Path) -> Book:
    """Every chapter below a folder of notebooks, in the order of the paper.

    Raises:
        UsageError: if the folder holds no chapter, two chapters share a section, or a notebook
            cannot be read.
    """
    notebooks = notebooks.resolve()
    if not notebooks.is_dir():
        raise UsageError(f"--notebooks {notebooks} is not a folder; pass the book's notebooks/")
    chapters: dict[str, Chapter] = {}
    for path in sorted(notebooks.rglob("*.ipynb")):
        hidden = any(part.startswith(".") for part in path.relative_to(notebooks).parts)
        section = section_of(path)
        if hidden or section is None:
            continue
        if section in chapters:
            raise UsageError(
                f"two notebooks are section {section}: {chapters[section].path.name} and "
                f"{path.name}; rename one"
            )
        chapters[section] = read_chapter(path, section)
    if not chapters:
        raise UsageError(
            f"{notebooks} holds no chapter (a file such as 3_1_hard_parameter_sharing.ipynb); "
            "pass the book's notebooks/ by --notebooks DIR"
        )
    root = notebooks.parent if (notebooks.parent / "pyproject.toml").is_file() else None
    return Book(notebooks, root, sorted(chapters.values(), key=lambda one: order(one.section)))


def section_of(path: Path) -> str | None:
    """The section that a notebook's name begins with: `3_1_hard_sharing.ipynb` is 3.1."""
    match = SECTION.match(path.name)
    return match[1].replace("_", ".") if match else None


def order(section: str) -> tuple[int, ...]:
    """The place of a section in the paper: 3.10 comes after 3.9."""
    return tuple(int(part) for part in section.split("."))


def read_chapter(path: Path, section: str) -> Chapter:
    """A notebook's text, title and parameters."""
    try:
        source = path.read_text(encoding="utf-8")
        cells = read_cells(source)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a readable notebook: restore it from the clone") from error
    code = [cell.source for cell in cells if cell.kind == "code"]
    try:
        rules = read(code)
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from error
    return Chapter(
        section=section,
        title=_title(cells, path, section),
        path=path,
        source=source,
        parameters=_parameters(cells, path),
        rules=rules,
        reads_ledger=reads_ledger(cells),
    )


def _title(cells: Sequence[Cell], path: Path, section: str) -> str:
    """The title, without the section's number that it may begin with: it is shown beside it."""
    for cell in cells:
        heading = re.search(r"^# +(.+)$", cell.source, re.MULTILINE)
        if cell.kind == "markdown" and heading:
            title = heading[1].strip()
            number = re.match(rf"(?:§ ?)?{re.escape(section)}(?!\.?\d)[\s.:·–—]+(?=\S)", title)
            return title[number.end() :] if number else title
    return path.stem


def _parameters(cells: Sequence[Cell], path: Path) -> dict[str, object]:
    """The names and defaults of the cell that is tagged `parameters`: literal assignments."""
    tagged = [cell for cell in cells if "parameters" in cell.tags]
    if not tagged:
        return {}
    try:
        statements = ast.parse(tagged[0].source).body
        return {
            ast.unparse(target): _plain(ast.literal_eval(statement.value))
            for statement in statements
            if isinstance(statement, ast.Assign)
            for target in statement.targets
        }
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"{path.name}: the cell tagged parameters must hold nothing but plain assignments "
            f"such as seeds = 16 ({error})"
        ) from error


def _plain(value: object) -> object:
    # papermill writes lists only: a tuple would reach the notebook as a string.
    return list(value) if isinstance(value, tuple) else value


def select(chapters: Sequence[Chapter], wanted: Sequence[str]) -> list[Chapter]:
    """The chapters that are wanted; all if nothing is.

    A section stands for itself and all below it, a notebook's name or path for itself alone.
    """
    for each in wanted:
        if not any(_means(each, chapter) for chapter in chapters):
            raise UsageError(
                f"there is no section {shown(each)}; the sections are "
                f"{', '.join(chapter.section for chapter in chapters)}"
            )
    return [
        chapter
        for chapter in chapters
        if not wanted or any(_means(each, chapter) for each in wanted)
    ]


def _means(wanted: str, chapter: Chapter) -> bool:
    by_name = Path(wanted).name in (chapter.path.name, chapter.path.stem)
    return by_name or f"{chapter.section}.".startswith(f"{wanted}.")
