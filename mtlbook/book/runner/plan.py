"""What a run will do: everything that is wrong with the request is told here, at once.

Nothing that takes long is imported for it, and nothing has been written when it refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtlbook.book import replication
from mtlbook.book.replication import Replication
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
    """A job per chapter; one that reads the ledger is sealed again when the others are done.

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
    package, replicated = Package(), replication.read(book.replication)
    return [
        sealed(book, job(chapter, mine, package, settings), about(chapter, replicated))
        for chapter, mine in zip(chapters, parameters, strict=True)
    ]


def job(
    chapter: Chapter, parameters: dict[str, object], package: Package, settings: Settings
) -> Job:
    """The job of a chapter, still without its fingerprint."""
    return Job(
        section=chapter.section,
        notebook=chapter.source,
        folder=str(chapter.path.parent),
        parameters=parameters,
        cell_timeout=settings.cell_timeout,
        fingerprint="",
        code=package.hash(chapter.section, chapter.source),
    )


def sealed(book: Book, job: Job, ledger: Mapping[str, bytes]) -> Job:
    """A job that may show these files of what was found, with the fingerprint of all of it."""
    files = {**job.ledger, **ledger}
    hashed = fingerprint(job.notebook, job.code, book.requirements, job.parameters, files)
    return replace(job, ledger=files, fingerprint=hashed)


def about(chapter: Chapter, replicated: Replication) -> dict[str, bytes]:
    """The replication as far as a page may show it: that of its claims and of those it names."""
    named = {one["id"] for one in replicated.records if one["id"] in chapter.source}
    seen = replicated if chapter.reads_ledger else replicated.about(chapter.section, named)
    return {replication.FILE: replication.to_json(seen)}
