"""One run of the book: what is up to date stays, the rest is executed, results are published."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console

from mtlbook.book import claims
from mtlbook.book.claims import Record
from mtlbook.book.interruption import INTERRUPTED
from mtlbook.book.runner import clone
from mtlbook.book.runner.book import Book, Chapter
from mtlbook.book.runner.budget import over_budget
from mtlbook.book.runner.display import Display, results
from mtlbook.book.runner.job import Failure, Job, Outcome, Progress
from mtlbook.book.runner.plan import Settings, sealed
from mtlbook.book.runner.store import RunRecord, Store, to_json
from mtlbook.errors import UsageError

Backend = Callable[
    [Callable[[Progress], None]], AbstractContextManager[Callable[[Job], Future[Outcome]]]
]
"""Opens the workers: takes what to call with progress, gives a function that submits a job."""


def run(
    book: Book,
    chapters: Sequence[Chapter],
    jobs: Sequence[Job],
    settings: Settings,
    backend: Backend,
    console: Console,
    errors: Console,
    keep: Callable[[Job], None] = lambda _: None,
) -> int:
    """Execute the chapters that are not up to date, publish all, and return the exit code.

    Pages that are made from the ledger come last, and see what the others have found. `keep` is
    called for each chapter whose results lie in the store and are those of its job.
    """
    if settings.update or any(chapter.reads_ledger for chapter in chapters):
        clone.merged_ledger(book, (), Store(settings.output))  # damaged, it is told at once
    store = Store(settings.output)
    names = {one.section: one.path.relative_to(book.notebooks).as_posix() for one in chapters}
    display = Display(console, chapters)
    records: dict[str, RunRecord] = {}
    failures: dict[str, Failure] = {}

    def publish(job: Job, outcome: Outcome) -> None:
        name = names[job.section]
        try:
            if outcome.failure:
                store.publish_failure(outcome, name)
            else:
                # A worker far from the clone cannot know where the notebook lies in it.
                located = [one | {"notebook": f"notebooks/{name}"} for one in outcome.claims]
                outcome = replace(outcome, claims=located)
                records[job.section] = store.publish(outcome, name, job.fingerprint, job.parameters)
                keep(job)
        except (UsageError, OSError) as error:
            outcome = failed(job, f"its results could not be written: {error}")
        if outcome.failure:
            failures[job.section] = outcome.failure
        display.finished(outcome)

    def bring_up_to_date(jobs: Sequence[Job]) -> None:
        waiting = []
        for job in jobs:
            record = None if settings.fresh else store.current(job.section, job.fingerprint)
            if record:
                records[job.section] = record
                display.up_to_date(job.section, record.seconds)
                keep(job)
            else:
                waiting.append(job)
        if waiting:
            execute(longest_first(waiting, store), backend, display.progress, publish)

    readers = {chapter.section for chapter in chapters if chapter.reads_ledger}
    interrupted = False
    try:
        with display:
            bring_up_to_date([job for job in jobs if job.section not in readers])
            if readers:
                found = clone.merged_ledger(book, list(records), store)
                ledger = {"claims.json": to_json({"claims": found})}
                last = [job for job in jobs if job.section in readers]
                bring_up_to_date([sealed(book, job, ledger) for job in last])
    except KeyboardInterrupt:
        interrupted = True
    merge_claims(store)
    say = partial(errors.print, markup=False, highlight=False, soft_wrap=True)
    if interrupted:
        kept = f"{len(records)} finished {'chapter is' if len(records) == 1 else 'chapters are'}"
        say(f"Interrupted: {kept} kept in {store.folder}; the same command resumes there.")
        return INTERRUPTED

    found = {section: claims.read(store.results(section)) for section in records}
    console.print(results(chapters, display.rows, found, records))
    for line in over_budget(chapters, records):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for what, where in {
        "Executed notebooks": store.notebook(""),
        "Figures": store.figure(""),
        "Claims": store.claims,
    }.items():
        console.print(f"{what}: {where}", markup=False, highlight=False, soft_wrap=True)
    edited: list[str] = []
    if settings.update:
        edited = clone.update(
            book, [one for one in chapters if one.section in records], records, store
        )
        console.print(f"Refreshed in the clone: {len(records) - len(edited)} of {len(chapters)}")
    for name in edited:
        say(f"{name} was edited while it ran and is left as it is: run again")
    for chapter in chapters:
        failure = failures.get(chapter.section)
        if failure:
            say(explanation(chapter, failure, store.failed(names[chapter.section])))
    return 1 if failures or edited else 0


def longest_first(jobs: Sequence[Job], store: Store) -> list[Job]:
    """The jobs by what they took the last time: a long one that starts last is waited for alone.

    Those that never ran here come first, in the paper's order: each may be the longest.
    """
    records = {job.section: store.latest(job.section) for job in jobs}

    def seconds(job: Job) -> float:
        record = records[job.section]
        return record.processor_seconds if record else math.inf

    return sorted(jobs, key=seconds, reverse=True)


def execute(
    jobs: Sequence[Job],
    backend: Backend,
    progress: Callable[[Progress], None],
    publish: Callable[[Job, Outcome], None],
) -> None:
    """Execute jobs, and publish each from this thread as soon as it is done."""
    events: SimpleQueue[Progress | tuple[Job, Future[Outcome]]] = SimpleQueue()
    with backend(events.put) as submit:
        for job in jobs:
            submit(job).add_done_callback(lambda done, job=job: events.put((job, done)))
        left = len(jobs)
        while left:
            event = events.get()
            if isinstance(event, Progress):
                progress(event)
                continue
            job, done = event
            publish(job, _outcome(job, done))
            left -= 1


def _outcome(job: Job, done: Future[Outcome]) -> Outcome:
    try:
        outcome = done.result()
    except CancelledError:
        return failed(job, "the connection to the cluster was lost")
    except Exception as error:  # whatever kept a worker from executing the job at all
        return failed(job, f"no worker could execute it: {type(error).__name__}: {error}")
    for record in outcome.claims:
        if set(record) != set(Record.__annotations__) or record["section"] != job.section:
            return failed(
                job, f"it recorded a claim that is none of section {job.section}'s: {record}"
            )
    return outcome


def failed(job: Job, reason: str) -> Outcome:
    """The outcome of a job that failed outside its cells."""
    return Outcome(job.section, 0.0, job.notebook, failure=Failure(0, "", reason))


def merge_claims(store: Store) -> None:
    """Write the merged results of every chapter in the store; nothing where there is none."""
    collections = [claims.read(path) for path in sorted(store.results("").parent.glob("*.json"))]
    if collections:
        claims.write(store.claims, claims.merge(*collections))


def explanation(chapter: Chapter, failure: Failure, notebook: Path) -> str:
    """What the user is told of a chapter that failed."""
    where = f" in code cell {failure.cell}" if failure.cell else ""
    lines = [f"{chapter.section} {chapter.title} failed{where}: {failure.error}"]
    lines += [f"    | {line}" for line in failure.source.splitlines()[:8]]
    if notebook.exists():
        lines.append(f"    The notebook as far as it came: {notebook}")
    return "\n".join(lines)
