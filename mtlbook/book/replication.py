"""The replication: every page again with other seeds, four times as many.

A page runs few seeds, so that it takes seconds, and its author has seen them. The verdicts of the
book are those of 64 seeds that nobody saw while a page was designed; `mtlbook replicate` records
them in `figures/replication.json`, each page's with the fingerprint of the code that gave them.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbook.book.files import repository, write_atomically
from mtlbook.errors import UsageError

if TYPE_CHECKING:
    from mtlbook.book.claims import Record

SEEDS = 64
FIRST_SEED = 100_000
FILE = "replication.json"
# What nobody can do without: the rest of a record is checked where it is made.
NEEDED = {"id", "section", "data", "effect", "low", "high", "seeds", "verdict"}


@dataclass(frozen=True)
class Replicated:
    """One page's replication: what it found, and the fingerprint of the code that found it."""

    fingerprint: str
    claims: "list[Record]"


@dataclass(frozen=True)
class Replication:
    """The replication of every page, by section."""

    pages: dict[str, Replicated] = field(default_factory=dict)

    @property
    def records(self) -> "list[Record]":
        """All records, sorted by section, claim and data."""
        return [one for section in sorted(self.pages, key=_order) for one in self._of(section)]

    def find(self, id: str, data: str) -> "Record | None":  # noqa: A002
        """The record of a claim on a data set; None where it was not replicated yet."""
        found = (one for one in self.records if one["id"] == id and one["data"] == data)
        return next(found, None)

    def about(self, section: str, ids: Collection[str]) -> "Replication":
        """What concerns a page: its own section's records, and those of the claims that it names.

        The fingerprints are left out: what a page shows does not hang on them.
        """
        pages = {
            key: Replicated("", [one for one in page.claims if key == section or one["id"] in ids])
            for key, page in self.pages.items()
        }
        return Replication({key: page for key, page in pages.items() if page.claims})

    def stale(self, fingerprints: Mapping[str, str]) -> list[str]:
        """The sections whose replication is missing or is not that of their present code.

        Arguments:
            fingerprints: of each page that records claims, as its code is now.
        """
        return [
            section
            for section, fingerprint in fingerprints.items()
            if section not in self.pages or self.pages[section].fingerprint != fingerprint
        ]

    def with_page(
        self, section: str, fingerprint: str, claims: "Iterable[Record]"
    ) -> "Replication":
        """The replication with that of one page put in, or in place of its older one."""
        return Replication(self.pages | {section: Replicated(fingerprint, list(claims))})

    def _of(self, section: str) -> "list[Record]":
        return sorted(self.pages[section].claims, key=lambda one: (one["id"], one["data"]))


def read(path: Path | None = None) -> Replication:
    """The replication in a file; empty where there is none.

    Without a path it is the :func:`newest`.
    """
    path = path or newest(FILE)
    if path is None or not path.exists():
        return Replication()
    try:
        pages = json.loads(path.read_text(encoding="utf-8"))["pages"]
        found = {section: Replicated(**page) for section, page in pages.items()}
        sections = sorted(found, key=_order)
        whole = all(
            set(one) >= NEEDED and one["section"] == section
            for section, page in found.items()
            for one in page.claims
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)
    return Replication({section: found[section] for section in sections})


def write(path: Path, replication: Replication) -> None:
    """Write a replication: sorted, and atomically."""
    write_atomically(path, to_json(replication))


def to_json(replication: Replication) -> bytes:
    """A replication as the bytes of its file: the same for the same records in any order."""
    pages = {
        section: asdict(
            Replicated(replication.pages[section].fingerprint, replication._of(section))
        )
        for section in sorted(replication.pages, key=_order)
    }
    text = json.dumps({"pages": pages}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode()


def merge(path: Path, section: str, fingerprint: str, claims: "Iterable[Record]") -> None:
    """Put one page's replication into a file, and leave those of the others as they are."""
    write(path, read(path).with_page(section, fingerprint, claims))


def newest(name: str) -> Path | None:
    """A file of results: of the folder `MTLBOOK_OUTPUT` if it is there, else the committed one.

    A run lays what its pages may see into that folder. None outside a repository of the book.
    """
    output = os.environ.get("MTLBOOK_OUTPUT")
    if output and (Path(output) / name).exists():
        return Path(output) / name
    root = repository(Path.cwd()) or repository(Path(__file__).parent)
    return root / "figures" / name if root else None


def _order(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))  # 3.10 comes after 3.9


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path.name} holds no replication: delete it and run mtlbook replicate")
