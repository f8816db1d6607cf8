"""What the user sees of a run: a live table on a terminal, plain lines elsewhere, then results."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from mtlbook.book.claims import Record
from mtlbook.book.runner.book import Chapter
from mtlbook.book.runner.budget import broken
from mtlbook.book.runner.job import Outcome, Progress
from mtlbook.book.runner.store import RunRecord

if TYPE_CHECKING:
    import pandas as pd

WAITING, RUNNING, DONE, FAILED, CURRENT = "waiting", "running", "done", "failed", "up to date"

COLOURS = {WAITING: "dim", RUNNING: "cyan", DONE: "green", FAILED: "red", CURRENT: "blue"}

GOOD_AND_BAD = {
    "supported": "green",
    "passed": "green",
    "harmful": "red",
    "refuted": "red",
    "failed": "red",
}


@dataclass
class Row:
    """A chapter's state while the run goes on."""

    chapter: Chapter
    state: str = WAITING
    cell: str = ""
    began: float = 0.0
    seconds: float | None = None


class Display:
    """The progress of a run, a row a chapter. Use it as a context: it draws while it is open."""

    def __init__(self, console: Console, chapters: Sequence[Chapter]):
        self.console = console
        self.rows = {chapter.section: Row(chapter) for chapter in chapters}
        self.live = (
            Live(
                get_renderable=self._table,
                console=console,
                refresh_per_second=4,
                transient=True,  # the table of results takes its place
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.live.stop()

    def progress(self, step: Progress) -> None:
        """A chapter's kernel has begun a cell."""
        row = self.rows[step.section]
        if row.state == WAITING:
            row.state, row.began = RUNNING, time.monotonic()
            self._say(row, "started")
        row.cell = f"{step.cell}/{step.cells}"

    def up_to_date(self, section: str, seconds: float) -> None:
        """A chapter need not run."""
        row = self.rows[section]
        row.state, row.seconds = CURRENT, seconds
        self._say(row, CURRENT)

    def finished(self, outcome: Outcome) -> None:
        """A chapter is done or has failed."""
        row = self.rows[outcome.section]
        row.state = FAILED if outcome.failure else DONE
        row.seconds = outcome.seconds
        self._say(row, f"{row.state} after {outcome.seconds:.1f} s")

    def _say(self, row: Row, what: str) -> None:
        if not self.live:
            line = f"{row.chapter.section} {row.chapter.title}: {what}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table("§", "Chapter", "State", "Cell")
        table.add_column("Seconds", justify="right")
        room = self.console.height - 6  # the frame and the title line
        for row in visible(list(self.rows.values()), room):
            seconds = time.monotonic() - row.began if row.state == RUNNING else row.seconds
            table.add_row(
                row.chapter.section,
                escape(row.chapter.title),
                f"[{COLOURS[row.state]}]{row.state}",
                row.cell,
                "" if seconds is None else f"{seconds:.0f}",
            )
        return table


def visible(rows: Sequence[Row], room: int) -> list[Row]:
    """The rows that a terminal has room for: what runs or failed first, then what waits."""
    urgency = (RUNNING, FAILED, WAITING, DONE, CURRENT)
    chosen = sorted(rows, key=lambda row: urgency.index(row.state))[: max(room, 1)]
    return [row for row in rows if row in chosen]


def results(
    chapters: Sequence[Chapter],
    rows: Mapping[str, Row],
    found: Mapping[str, list[Record]],
    records: Mapping[str, RunRecord],
) -> Table:
    """The table that a run ends with: chapter, what it took, claims and verdicts.

    What is over a page's budget is marked by an exclamation mark.
    """
    table = Table("§", "Chapter", "State")
    for name in ("Seconds", "of a core", "MB"):
        table.add_column(name, justify="right")
    for name in ("Claim", "Data", "Role", "Effect [95 % interval]", "Verdict"):
        table.add_column(name, overflow="fold")
    for chapter in chapters:
        row = rows[chapter.section]
        lead = [
            chapter.section,
            escape(chapter.title),
            f"[{COLOURS[row.state]}]{row.state}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            *_effort(records.get(chapter.section)),
        ]
        recorded = [
            [
                escape(one["id"]),
                escape(one["data"]),
                one["role"],
                _effect(one["effect"], one["low"], one["high"]),
                _verdict(one["verdict"]),
            ]
            for one in found.get(chapter.section, [])
        ]
        for number, claim in enumerate(recorded or [[""] * 5]):
            table.add_row(*(lead if number == 0 else [""] * len(lead)), *claim)
    return table


def verdicts(frame: "pd.DataFrame") -> Table:
    """The table of `mtlbook report`, of :func:`mtlbook.book.ledger.frame`.

    Where a claim is not replicated, effect and p-values are those of the page.
    """
    table = Table("§", "Claim", "Data", "Role", "Effect [95 % interval]")
    for name in ("Seeds", "p", "p (Holm)"):
        table.add_column(name, justify="right")
    for name in ("Verdict", "The page's"):
        table.add_column(name)
    for row in frame.to_dict("records"):
        mark = "" if row["survives"] else " †"
        table.add_row(
            row["section"],
            escape(row["statement"]),
            escape(row["data"]),
            row["role"],
            _effect(row["effect"], row["low"], row["high"]),
            str(row["seeds"]),
            f"{row['p']:.2g}",
            f"{row['p_holm']:.2g}",
            _verdict(row["verdict"]) + mark if row["replication_verdict"] else "not replicated",
            _verdict(row["page_verdict"]) + ("" if row["replication_verdict"] else mark),
        )
    if not bool(frame["survives"].all()):
        table.caption = "† does not survive: the corrected p-value is above 5 %"
    return table


def _verdict(verdict: str) -> str:
    """A verdict in its colour: good, bad, or neither."""
    colour = GOOD_AND_BAD.get(verdict)
    return f"[{colour}]{verdict}[/]" if colour else verdict


def _effort(record: RunRecord | None) -> list[str]:
    """Processor seconds and megabytes, as far as a chapter has succeeded."""
    if record is None:
        return ["", ""]
    marks = {key: "[red]! " if over else "" for key, over in broken(record).items()}
    return [
        f"{marks['seconds']}{record.processor_seconds:.1f}",
        f"{marks['megabytes']}{record.megabytes}",
    ]


def _effect(estimate: float, low: float, high: float) -> str:
    return escape(f"{estimate:.3g} [{low:.3g}, {high:.3g}]")
