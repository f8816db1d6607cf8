"""Errors that a user can mend: each says the cause and the remedy in one message."""


class UsageError(ValueError):
    """A mistake in what the user asked for, told in one sentence with its remedy."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the library's internals: the message alone."""
        return [f"{type(self).__name__}: {self}"]
