"""What a page may take: the book has many, and each is to be run by its reader."""

from collections.abc import Mapping, Sequence

from mtlbook.book.runner.book import Chapter
from mtlbook.book.runner.store import RunRecord

SECONDS = 35
"""Of one core. Processor time, so that a page is not blamed for what runs beside it."""

MEGABYTES = 1_000


def broken(record: RunRecord) -> dict[str, bool]:
    """Whether a run took more seconds or megabytes than a page may.

    The limits are those of the committed parameters: a reader may ask for as much as they like.
    """
    own = not record.parameters
    return {
        "seconds": own and record.processor_seconds > SECONDS,
        "megabytes": own and record.megabytes > MEGABYTES,
    }


def over_budget(chapters: Sequence[Chapter], records: Mapping[str, RunRecord]) -> list[str]:
    """A line for each chapter that broke a limit, saying which one and by how much."""
    lines = []
    for chapter in chapters:
        record = records.get(chapter.section)
        limits = broken(record) if record else {}
        said = []
        if record and limits["seconds"]:
            said.append(f"{record.processor_seconds:.1f} s of one core (at most {SECONDS} s)")
        if record and limits["megabytes"]:
            said.append(f"{record.megabytes} MB of memory (at most {MEGABYTES} MB)")
        if said:
            lines.append(f"Over a page's budget: {chapter.section} takes {' and '.join(said)}")
    return lines
