"""Ctrl-C: one line and a known exit code, also in the seconds in which a command imports."""

import os
import signal
from types import FrameType

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, by the shells' custom."""


def leave_at_once() -> None:
    """Let Ctrl-C end this process on the spot, as long as it has nothing to end in good order.

    An exception in the midst of imports would be told at length, or swallowed by a library.
    """
    # Whoever starts a command in the background may have it ignore Ctrl-C: leave that.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def unwind() -> None:
    """Let Ctrl-C be Python's exception from here on: something begins that has to be ended."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    os.write(2, b"mtlbook: interrupted before anything was begun\n")
    os._exit(INTERRUPTED)
