"""Where a run's results lie, and how they get there: whole or not at all."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtlbook.book.files import write_atomically
from mtlbook.book.runner.job import Outcome
from mtlbook.errors import UsageError

SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class RunRecord:
    """A chapter's successful run, as `runs/<section>.json` holds it: the files that it made.

    It is written last, so that a run which was killed has none and is done again. `seconds` are
    those of the clock; `processor_seconds` and `megabytes` are its kernel's, whatever ran beside.
    """

    section: str
    fingerprint: str
    status: str
    seconds: float
    processor_seconds: float
    megabytes: int
    parameters: dict[str, Any]
    files: list[str]


@dataclass(frozen=True)
class Store:
    """The folder of a run's results."""

    folder: Path

    @property
    def claims(self) -> Path:
        """The merged results of all chapters."""
        return self.folder / "claims.json"

    def run(self, section: str) -> Path:
        """The record of a chapter's run."""
        return self.folder / "runs" / f"{section}.json"

    def results(self, section: str) -> Path:
        """The results of a chapter's claims."""
        return self.folder / "claims" / f"{section}.json"

    def notebook(self, name: str) -> Path:
        """An executed notebook, by its path within the book."""
        return self.folder / "notebooks" / name

    def figure(self, name: str) -> Path:
        """A figure."""
        return self.folder / "figures" / name

    def failed(self, name: str) -> Path:
        """A failed notebook, by its path within the book."""
        return self.folder / "failed" / Path(name).name

    def current(self, section: str, fingerprint: str) -> RunRecord | None:
        """The record of a chapter that need not run again: same fingerprint, every file there."""
        record = self.latest(section)
        if record is None or record.fingerprint != fingerprint or record.status != SUCCEEDED:
            return None
        return record if all((self.folder / name).is_file() for name in record.files) else None

    def publish(
        self, outcome: Outcome, name: str, fingerprint: str, parameters: dict[str, Any]
    ) -> RunRecord:
        """Write what a chapter made, in place of what it made before."""
        before = self.latest(outcome.section)
        self.run(outcome.section).unlink(missing_ok=True)
        contents = {
            self.notebook(name): outcome.notebook.encode(),
            self.results(outcome.section): to_json(outcome.claims),
            **{self.figure(one): data for one, data in outcome.figures.items()},
        }
        for path, content in contents.items():
            write_atomically(path, content)
        files = [path.relative_to(self.folder).as_posix() for path in contents]
        for stale in set(before.files if before else []) - set(files):
            (self.folder / stale).unlink(missing_ok=True)
        self.failed(name).unlink(missing_ok=True)
        record = RunRecord(
            section=outcome.section,
            fingerprint=fingerprint,
            status=SUCCEEDED,
            seconds=round(outcome.seconds, 1),
            processor_seconds=round(outcome.effort.seconds, 1),
            megabytes=round(outcome.effort.memory / 1e6),
            parameters=parameters,
            files=files,
        )
        write_atomically(self.run(outcome.section), to_json(asdict(record)))
        return record

    def publish_failure(self, outcome: Outcome, name: str) -> Path:
        """Write a failed notebook where the user can look at it, and nothing else."""
        path = self.failed(name)
        write_atomically(path, outcome.notebook.encode())
        return path

    def latest(self, section: str) -> RunRecord | None:
        """The record of a chapter's latest success, whatever it was run with."""
        try:
            return RunRecord(**json.loads(self.run(section).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None  # never run, or by another version: run it


def to_json(content: object) -> bytes:
    """JSON as it is committed: indented, one line break at the end."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def check_writable(folders: Iterable[Path]) -> None:
    """Refuse folders that cannot be written, before anything runs; leave no trace in them.

    Raises:
        UsageError: naming the first such folder.
    """
    for folder in folders:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        probe = folder / ".mtlbook.partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
            for created in missing:
                created.rmdir()
        except OSError as error:
            raise UsageError(
                f"cannot write into {folder} ({error.strerror}); pass another --output DIR"
            ) from error
