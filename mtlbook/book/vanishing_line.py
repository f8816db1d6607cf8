"""A line below the running cell of JupyterLab that leaves nothing behind in the notebook.

A front end can only take back *all* outputs of a cell. So what the cell shows is kept while it runs
and, where a line has to go, shown again without it. The line goes as soon as the cell shows
something else, and at the latest when the cell ends, so that no result ever waits for it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import count
from typing import Any

_NUMBERS = count()


class VanishingLine:
    """One line below the cell that is running, in a kernel that speaks with a Jupyter server.

    Arguments:
        shell: the kernel's IPython. From here on it tells this object of all that a cell shows.
    """

    def __init__(self, shell: Any) -> None:
        self._publisher = shell.display_pub
        self._sent: list[Callable[[], object]] = []
        self._name: str | None = None
        self._busy = False
        # Of what the running cell has shown before now nothing is known.
        self._knows_all = False
        self._writes: list[tuple[Any, Any]] = []
        self._publisher.register_hook(self._sees)
        _before(shell.displayhook, "finish_displayhook", self._gives_up)
        _before(shell, "_showtraceback", self._gives_up)
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)

    def show(self, text: str) -> None:
        """Show the line, or change what it says."""
        if not self._knows_all:
            return
        is_new = self._name is None
        if is_new:
            self._name = f"mtlbook-progress-{next(_NUMBERS)}"
        self._undisturbed(
            lambda: self._publisher.publish(
                {"text/plain": text}, transient={"display_id": self._name}, update=not is_new
            )
        )

    def retract(self) -> None:
        """Take the line away, as if it had never been."""
        if self._name is None:
            return
        self._name = None

        def show_the_rest() -> None:
            self._publisher.clear_output(wait=bool(self._sent))
            for show_again in self._sent:
                show_again()

        self._undisturbed(show_the_rest)

    def _begin(self, _: object) -> None:
        """A cell begins; if another one still runs, it has called this one as a part of itself."""
        is_part = bool(self._writes)
        self._end(None)
        self._knows_all = not is_part
        # Only for the time of the cell: IPython itself replaces the streams' methods as long.
        for stream in (sys.stdout, sys.stderr):
            self._listen_to(stream)

    def _end(self, _: object) -> None:
        self.retract()
        for stream, write in self._writes:
            stream.write = write
        self._writes, self._sent, self._knows_all = [], [], False

    def _gives_up(self) -> None:
        """Make room for what isn't kept: it comes last in a cell."""
        self.retract()
        self._knows_all = False

    def _undisturbed(self, publish: Callable[[], None]) -> None:
        self._busy = True
        try:
            publish()
        finally:
            self._busy = False

    def _sees(self, message: dict[str, Any]) -> dict[str, Any]:
        """A hook of the publisher: keeps what is displayed, and takes the line away before it."""
        if self._busy:
            return message
        kind, content = message["msg_type"], message["content"]
        if kind == "clear_output":
            self._name = None  # it goes with the rest
            self._sent = []
        else:
            self.retract()
            self._sent.append(
                lambda: self._publisher.publish(
                    content["data"],
                    content["metadata"],
                    transient=content["transient"],
                    update=kind == "update_display_data",
                )
            )
        return message

    def _listen_to(self, stream: Any) -> None:
        """Keep what is printed, and take the line away before it."""
        write = stream.write

        @wraps(write)
        def listening(text: str) -> Any:
            if text and not self._busy:
                self.retract()
                last = self._sent[-1] if self._sent else None
                if isinstance(last, _Printed) and last.stream is stream:
                    last.text += text
                else:
                    self._sent.append(_Printed(stream, write, text))
            return write(text)

        self._writes.append((stream, write))
        stream.write = listening


@dataclass
class _Printed:
    """A text that a cell has printed on a stream."""

    stream: Any
    write: Callable[[str], object]
    text: str

    def __call__(self) -> None:
        self.write(self.text)
        self.stream.flush()  # before anything goes to the other stream


def _before(owner: Any, name: str, act: Callable[[], None]) -> None:
    """From now on do something before a method of one object."""
    method = getattr(owner, name)

    @wraps(method)
    def acting(*positional: Any, **named: Any) -> Any:
        act()
        return method(*positional, **named)

    setattr(owner, name, acting)
