"""How far a training is: a line on a terminal, or what the caller wants to show instead."""

import sys
from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Bar(Protocol):
    """What shows progress, from its making to its closing."""

    def update(self, n: int = 1, /) -> object:
        """So many more of the whole are done."""

    def close(self) -> object:
        """The work has ended, or broken off."""


class Line:
    """A line on a terminal, overwritten in place and gone at the end; nothing elsewhere."""

    def __init__(self, total: int, label: str) -> None:
        self._total, self._label = max(1, total), label
        self._done, self._shown = 0, -1

    def update(self, n: int = 1, /) -> None:
        """Show the share that is done whenever a whole percent is added."""
        self._done += n
        percent = 100 * self._done // self._total
        if percent > self._shown and sys.stderr.isatty():
            self._shown = percent
            sys.stderr.write(f"\r{self._label}: {percent} %")
            sys.stderr.flush()

    def close(self) -> None:
        """Remove the line."""
        if self._shown >= 0:
            sys.stderr.write("\r\x1b[K")


_make: Callable[[int, str], Bar] = Line


def show_with(make: Callable[[int, str], Bar]) -> None:
    """From now on show progress with what `make(total, label)` gives (a `tqdm`, for one)."""
    global _make
    _make = make


def bar(total: int, label: str) -> Bar:
    """What shows the progress of one training of so many steps."""
    return _make(total, label)
