"""`mtlbook replicate`: pages run with many seeds that nobody has seen, and what they found kept.

It is a run of its own in a folder of its own. What a page found is recorded as soon as the page is
done, with the fingerprint of the code that found it, so that an interrupted replication resumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbook.book import replication
from mtlbook.book.replication import FIRST_SEED, SEEDS, Replication
from mtlbook.book.runner.book import Book, Chapter
from mtlbook.book.runner.fingerprint import results_fingerprint
from mtlbook.book.runner.imports import Package
from mtlbook.book.runner.job import Job
from mtlbook.book.runner.plan import Settings, plan
from mtlbook.book.runner.store import Store, check_writable
from mtlbook.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbook.book.runner.run import Backend

STANDARD: Mapping[str, object] = {"seeds": SEEDS, "first_seed": FIRST_SEED}
"""The parameters of the book's replication. What other seeds find is not committed."""


@dataclass(frozen=True)
class Planned:
    """What a replication will do.

    Attributes:
        chapters: those that have to run.
        jobs: theirs.
        current: those whose replication is that of their present code.
        path: the file that it is recorded in.
        sections: those of the whole book; pages of others are dropped from the file.
    """

    chapters: list[Chapter]
    jobs: list[Job]
    current: list[Chapter]
    path: Path
    sections: frozenset[str]


def plan_replication(book: Book, chapters: Sequence[Chapter], settings: Settings) -> Planned:
    """A job for each of the chapters that records claims and is not replicated as it stands.

    Raises:
        UsageError: whatever is wrong with the request.
    """
    chapters = [chapter for chapter in chapters if not chapter.reads_ledger]
    if not chapters:
        raise UsageError("pages made from the ledger record no claims: there is nothing to repeat")
    package = Package()
    jobs = [
        replace(job, ledger={}, fingerprint=_fingerprint(chapter, job.parameters, package))
        for chapter, job in zip(chapters, plan(book, chapters, settings), strict=True)
    ]
    standard = all(
        (chapter.parameters | job.parameters).items() >= STANDARD.items()
        for chapter, job in zip(chapters, jobs, strict=True)
    )
    committed = book.replication if standard else None
    path = committed or settings.output / replication.FILE
    check_writable([path.parent])
    known = replication.read(path)
    stale = known.stale({job.section: job.fingerprint for job in jobs})
    waiting = {job.section for job in jobs if settings.fresh or job.section in stale}
    return Planned(
        chapters=[chapter for chapter in chapters if chapter.section in waiting],
        jobs=[job for job in jobs if job.section in waiting],
        current=[chapter for chapter in chapters if chapter.section not in waiting],
        path=path,
        sections=frozenset(chapter.section for chapter in book.chapters),
    )


def replicate(
    book: Book,
    planned: Planned,
    settings: Settings,
    backend: "Backend",
    console: "Console",
    errors: "Console",
) -> int:
    """Run the chapters, record each as soon as it is done, and return the exit code."""
    from mtlbook.book import claims
    from mtlbook.book.runner.run import run

    store = Store(settings.output)

    def keep(job: Job) -> None:
        pages = replication.read(planned.path).pages
        known = Replication({one: pages[one] for one in pages if one in planned.sections})
        found = claims.read(store.results(job.section))
        replication.write(planned.path, known.with_page(job.section, job.fingerprint, found))

    for chapter in planned.current:
        line = f"{chapter.section} {chapter.title}: replicated"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    code = 0
    if planned.jobs:
        code = run(book, planned.chapters, planned.jobs, settings, backend, console, errors, keep)
    line = f"Replication: {planned.path}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return code


def stale(book: Book, known: Replication) -> list[str]:
    """The sections whose replication is missing or older than their code."""
    package = Package()
    return known.stale(
        {
            chapter.section: _fingerprint(chapter, STANDARD, package)
            for chapter in book.chapters
            if not chapter.reads_ledger
        }
    )


def _fingerprint(chapter: Chapter, parameters: Mapping[str, object], package: Package) -> str:
    values = chapter.parameters | dict(parameters)
    code = package.hash_of_results(chapter.section, chapter.source)
    return results_fingerprint(chapter.source, code, values)
