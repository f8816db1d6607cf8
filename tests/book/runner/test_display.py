import io
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtlbook.book.claims import Record, Role
from mtlbook.book.ledger import frame
from mtlbook.book.replication import Replication
from mtlbook.book.runner.book import Chapter
from mtlbook.book.runner.display import (
    CURRENT,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    Display,
    Row,
    results,
    verdicts,
    visible,
)
from mtlbook.book.runner.job import Failure, Outcome, Progress
from mtlbook.statistics import Verdict


def _chapters(count: int) -> list[Chapter]:
    return [Chapter(f"3.{n}", f"[bold]Title {n}", Path("x"), "", {}) for n in range(1, count + 1)]


def test_a_terminal_shows_state_cell_and_seconds_of_every_chapter() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    with Display(console, _chapters(4)) as display:
        display.progress(Progress("3.1", 3, 7, 1))
        display.rows["3.1"].began = time.monotonic() - 42
        display.finished(Outcome("3.2", 5.0, "{}", failure=Failure(1, "", "bad")))
        display.up_to_date("3.3", 9.0)
        shown = Console(file=io.StringIO(), width=100)
        assert display.live is not None
        shown.print(display.live.get_renderable())
        assert isinstance(shown.file, io.StringIO)
        rows = {
            line.split()[1]: line for line in shown.file.getvalue().splitlines() if "3." in line
        }
    assert all(f"[bold]Title {n}" in rows[f"3.{n}"] for n in range(1, 5))
    for section, words in {
        "3.1": ("running", "3/7", "42"),
        "3.2": ("failed", "5"),
        "3.3": ("up to date", "9"),
        "3.4": ("waiting",),
    }.items():
        assert all(word in rows[section] for word in words)


def test_elsewhere_a_plain_line_tells_that_a_chapter_starts_and_ends() -> None:
    console = Console(file=io.StringIO(), width=20)
    with Display(console, _chapters(2)) as display:
        for cell in range(3):
            display.progress(Progress("3.1", cell, 2, 1))
        display.finished(Outcome("3.1", 1.25, "{}"))
        display.up_to_date("3.2", 3.0)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "3.1 [bold]Title 1: started",
        "3.1 [bold]Title 1: done after 1.2 s",
        "3.2 [bold]Title 2: up to date",
    ]


def test_a_small_terminal_shows_what_runs_first_and_keeps_the_order() -> None:
    states = [DONE, WAITING, RUNNING, CURRENT, FAILED, WAITING, RUNNING]
    rows = [Row(one, state) for one, state in zip(_chapters(7), states, strict=True)]
    shown = {room: [row.chapter.section for row in visible(rows, room)] for room in (0, 2, 4, 9)}
    assert shown == {
        0: ["3.3"],
        2: ["3.3", "3.7"],
        4: ["3.2", "3.3", "3.5", "3.7"],
        9: [f"3.{n}" for n in range(1, 8)],
    }


def _record(section: str, verdict: Verdict, role: Role, seeds: int = 16) -> Record:
    return Record(
        id=f"{section}-a", section=section, statement=f"Claim {section}.", effect=1.0, low=0.5,
        high=1.5, p=0.001, smallest=0.1, seeds=seeds, verdict=verdict, data="digits",
        notebook="n", role=role,
    )  # fmt: skip


def _shown(table: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_run_ends_with_every_verdict_and_role() -> None:
    chapters = _chapters(3)
    rows = {one.section: Row(one, DONE, seconds=1.0) for one in chapters}
    found = {
        "3.1": [_record("3.1", "harmful", "real data")],
        "3.2": [
            _record("3.2", "too few seeds", "mechanism present", seeds=4),
            _record("3.2", "passed", "mechanism off"),
        ],
    }
    lines = _shown(results(chapters, rows, found, {}))
    for words in (
        ("3.1-a", "real data", "harmful"),
        ("3.2-a", "mechanism present", "too few seeds"),
        ("3.2-a", "mechanism off", "passed"),
        ("3.3", "Title 3"),
    ):
        assert any(all(word in line for word in words) for line in lines)


def test_the_report_shows_the_books_verdict_and_the_pages_beside_it() -> None:
    pages = [
        _record("3.1", "supported", "real data"),
        _record("3.2", "slight", "mechanism present"),
    ]
    again = _record("3.1", "undecided", "real data", seeds=64)
    lines = _shown(verdicts(frame(pages, Replication().with_page("3.1", "", [again]))))
    [replicated] = [line for line in lines if "3.1" in line]
    [single] = [line for line in lines if "3.2" in line]
    assert replicated.index("undecided") < replicated.index("supported")
    assert " 64 " in replicated
    assert single.index("not replicated") < single.index("slight")
    assert " 16 " in single
