"""Errors that a user can mend: each says the cause and the remedy in one message."""


class UsageError(ValueError):
    """A mistake in what the user asked for, told in one sentence with its remedy."""
