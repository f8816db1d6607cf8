"""What travels between the runner and its workers: a job out, progress and an outcome back."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """Everything that a worker anywhere needs to execute one chapter.

    `folder` is the notebook's own, the kernel's working directory where it exists. `code` is the
    hash of what the chapter reaches of the package: a worker with another one would compute other
    results. `ledger` are the files, by name, of what other pages or seeds found that it may show.
    """

    section: str
    notebook: str
    folder: str
    parameters: dict[str, Any]
    cell_timeout: int
    fingerprint: str
    code: str
    ledger: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A chapter's kernel (its process id) works on code cell `cell` of `cells`; 0 = it starts."""

    section: str
    cell: int
    cells: int
    kernel: int


@dataclass(frozen=True)
class Failure:
    """Why a chapter failed: the code cell (counted from 1; 0 = none yet), its source, the error."""

    cell: int
    source: str
    error: str


@dataclass(frozen=True)
class Effort:
    """What a chapter's kernel took: processor seconds, and bytes of memory at its peak."""

    seconds: float
    memory: int


@dataclass(frozen=True)
class Outcome:
    """What the execution of a chapter gave: the clean notebook, its claims and its figures.

    `seconds` are those of the clock; `effort` is what its kernel took.
    """

    section: str
    seconds: float
    notebook: str
    claims: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, bytes] = field(default_factory=dict)
    failure: Failure | None = None
    effort: Effort = Effort(0.0, 0)
