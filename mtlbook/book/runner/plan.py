"""What a run will do: everything that is wrong with the request is told here, at once.

Nothing that takes long is imported for it, and nothing has been written when it refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlbook.book.runner.book import Book, Chapter
from mtlbook.book.runner.fingerprint import fingerprint
from mtlbook.book.runner.imports import Package
from mtlbook.book.runner.job import Job
from mtlbook.book.runner.parameters import changed, check_device
from mtlbook.book.runner.store import check_writable
from mtlbook.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    parameters: Mapping[str, str]
    output: Path
    cell_timeout: int
    update: bool
    fresh: bool
    here: bool


def plan(book: Book, chapters: Sequence[Chapter], settings: Settings) -> list[Job]:
    """A job per chapter.

    Raises:
        UsageError: whatever is wrong with the request.
    """
    parameters = changed(chapters, settings.parameters)
    for chapter, mine in zip(chapters, parameters, strict=True):
        if settings.update and mine:
            raise UsageError(
                "--update refreshes the committed results, which are those of the committed "
                f"parameters: leave out {', '.join(mine)}, or edit the parameters cell"
            )
        if "device" in chapter.parameters:
            device = mine.get("device", chapter.parameters["device"])
            check_device(device, here=settings.here)
    if settings.update and book.root is None:
        raise UsageError("--update needs a clone of mtlbook; run inside it")
    folders = [settings.output]
    if settings.update and book.root:
        folders += [book.notebooks, book.root / "figures"]
    check_writable(folders)
    package = Package()
    codes = [package.hash(chapter.section, chapter.source) for chapter in chapters]
    return [
        Job(
            section=chapter.section,
            notebook=chapter.source,
            folder=str(chapter.path.parent),
            parameters=mine,
            cell_timeout=settings.cell_timeout,
            fingerprint=fingerprint(chapter.source, code, book.requirements, mine),
            code=code,
        )
        for chapter, mine, code in zip(chapters, parameters, codes, strict=True)
    ]
