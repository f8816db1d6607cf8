"""How far a page's cell is, where somebody looks at it, and silence where output is stored.

In JupyterLab a cell has one quiet line, which its trainings and loops share and which is gone when
the cell ends; on a terminal each has a bar. papermill and nbval store whatever a cell prints, so
that their kernels print nothing: only a Jupyter server names the session of a kernel.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from IPython.core.getipython import get_ipython
from tqdm import tqdm

from mtlbook.book.vanishing_line import VanishingLine
from mtlbook.training.progress import Bar, show_with

SECONDS_BEFORE_SHOWN = 0.5
SECONDS_BETWEEN_UPDATES = 0.25

Item = TypeVar("Item")


class Part:
    """Some work of a cell, as a bar: nested parts are one step of the part around them."""

    def __init__(self, cell: "Cell", total: int, label: str, counted: bool) -> None:
        self._cell, self.total, self.label, self.counted = cell, max(1, total), label, counted
        self.done = 0
        self.begun = 0
        """How many parts were begun within the present step."""
        self.usual = 0
        """How many parts earlier steps had."""

    def update(self, n: int = 1, /) -> None:
        """So many more steps are done."""
        self.done += n
        self.usual, self.begun = max(self.usual, self.begun), 0
        self._cell.changed()

    def close(self) -> None:
        """The work has ended, or broken off."""
        self._cell.close(self)


class Cell:
    """What a cell does at the moment: its open parts from the outermost on.

    Arguments:
        show: shows a line that says how far the cell is.
        clock: the seconds since some time.
    """

    def __init__(
        self, show: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._show, self._clock = show, clock
        self._parts: list[Part] = []
        self._outermost: Counter[str] = Counter()
        self._begun = self._shown = clock()
        self._furthest = 0.0

    def begin(self) -> None:
        """Another cell: what was left open is of no interest any more."""
        self._parts, self._outermost = [], Counter()
        self._shown = self._clock() + SECONDS_BEFORE_SHOWN - SECONDS_BETWEEN_UPDATES

    def open(self, total: int, label: str, counted: bool = False) -> Part:
        """Another part, within those that are open."""
        if self._parts:
            self._parts[-1].begun += 1
        else:
            self._outermost[label] += 1
            self._begun, self._furthest = self._clock(), 0.0
        self._parts.append(Part(self, total, label, counted))
        return self._parts[-1]

    def close(self, part: Part) -> None:
        """A part has ended, and with it what is still open within."""
        if part in self._parts:
            del self._parts[self._parts.index(part) :]

    def changed(self) -> None:
        """Say how far the cell is, unless this was said just now."""
        now = self._clock()
        if self._parts and now - self._shown >= SECONDS_BETWEEN_UPDATES:
            self._shown = now
            self._show(self.text())

    def text(self) -> str:
        """What the cell does, how far it is, and how long it may take."""
        counted = [part for part in self._parts if part.counted]
        what = ", ".join(
            f"{part.label} {min(part.done + 1, part.total)} of {part.total}" for part in counted
        )
        of_it = ""
        if not self._parts[0].counted:
            # Nobody knows how many more of its kind the cell has.
            label = self._parts[0].label
            what, of_it = f"{label} {self._outermost[label]}", " of it"
        self._furthest = max(self._furthest, _share(self._parts))
        said = [what, f"{100 * self._furthest:.0f} %{of_it}"]
        taken = self._clock() - self._begun
        if self._furthest > 0 and taken >= 1:
            said.append(f"about {_duration(taken / self._furthest - taken)} left")
        return " · ".join(said)


def _share(parts: list[Part]) -> float:
    """Which share of the first part is done, with those within as part of its present step."""
    first, *rest = parts
    within = 0.0
    if first.begun:
        begun = first.begun - 1 + (_share(rest) if rest else 1.0)
        within = begun / max(first.begun, first.usual)
    return min(1.0, (first.done + within) / first.total)


def _duration(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{max(1, round(seconds)) if seconds < 20 else 5 * round(seconds / 5)} s"


_cell: Cell | None = None
"""The one of this kernel, where a Jupyter server shows it."""


def show_progress() -> None:
    """From now on trainings show how far they are, in JupyterLab and on a terminal."""
    global _cell
    shell: Any = get_ipython()
    has_hooks = hasattr(getattr(shell, "display_pub", None), "register_hook")
    if _cell is None and has_hooks and "JPY_SESSION_NAME" in os.environ:
        _cell = cell = Cell(VanishingLine(shell).show)
        shell.events.register("pre_run_cell", lambda _: cell.begin())
    show_with(_training)


def _training(total: int, label: str) -> Bar:
    return progress(total, f"{label}: training" if _cell else label)


def progress(total: int, label: str, *, counted: bool = False) -> Bar:
    """What shows that so many steps of some work are done.

    Arguments:
        total: the number of steps.
        label: what is done.
        counted: whether the steps are what the reader counts ("overlaps 2 of 6"), or just a measure
            of how far the work is ("search 2 · 40 % of it").
    """
    if _cell is not None:
        return _cell.open(total, label, counted)
    watched = sys.stderr.isatty()
    return tqdm(total=total, desc=label, leave=False, disable=not watched, dynamic_ncols=True)


def each(items: Iterable[Item], what: str, *, counted: bool = True) -> Iterator[Item]:
    """The items one by one, showing how many are done; trainings within count as part of an item.

    Arguments:
        items: of a loop.
        what: what they are, in the plural; in the singular where they are not `counted`.
        counted: as for `progress`.

    Example:
        >>> [2 * overlap for overlap in each([0, 1, 2], "overlaps")]
        [0, 2, 4]
    """
    items = list(items)
    with closing(progress(len(items), what, counted=counted)) as bar:
        for item in items:
            yield item
            bar.update(1)
