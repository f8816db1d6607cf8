"""`--update`: the committed notebooks and figures refreshed from a run's results."""

import re
from collections.abc import Collection, Mapping, Sequence

from mtlbook.book import claims
from mtlbook.book.claims import Record
from mtlbook.book.files import write_atomically
from mtlbook.book.runner.book import Book, Chapter
from mtlbook.book.runner.fingerprint import source_hash
from mtlbook.book.runner.store import RunRecord, Store


def update(
    book: Book, chapters: Sequence[Chapter], records: Mapping[str, RunRecord], store: Store
) -> list[str]:
    """Copy the results of the chapters that succeeded into the clone.

    Images that a chapter no longer draws are removed; the claims of other chapters are kept.

    Returns:
        the notebooks that were edited while they ran: they are left alone, with their results.
    """
    assert book.root is not None
    figures = book.root / "figures"
    edited: list[str] = []
    sections: list[str] = []
    for chapter in chapters:
        name = chapter.path.relative_to(book.notebooks).as_posix()
        if source_hash(chapter.path.read_text(encoding="utf-8")) != source_hash(chapter.source):
            edited.append(name)
            continue
        write_atomically(chapter.path, store.notebook(name).read_bytes())
        drawn = [one for one in records[chapter.section].files if one.startswith("figures/")]
        for one in drawn:
            write_atomically(book.root / one, (store.folder / one).read_bytes())
        own = re.compile(rf"{chapter.section.replace('.', '_')}_(?!\d)")
        for path in figures.glob("*.png"):
            if own.match(path.name) and f"figures/{path.name}" not in drawn:
                path.unlink()
        sections.append(chapter.section)
    claims.write(figures / "claims.json", merged_ledger(book, sections, store))
    return edited


def merged_ledger(book: Book, sections: Collection[str], store: Store) -> list[Record]:
    """The committed ledger with the claims of these sections as the run found them."""
    committed = claims.read(book.figures / "claims.json") if book.figures else []
    kept = [one for one in committed if one["section"] not in sections]
    return claims.merge(kept, *(claims.read(store.results(section)) for section in sections))
