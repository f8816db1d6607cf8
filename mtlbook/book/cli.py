"""The command `mtlbook`: the part that is there before anything heavy is imported.

`python -m mtlbook.book.cli` is the same command; :mod:`mtlbook.book.commands` says what it does.
"""

import sys
from collections.abc import Sequence

from mtlbook.book.interruption import leave_at_once

WITHOUT_THE_BOOK = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in a process of its own; without the extra `book` say how to get it."""
    leave_at_once()
    try:
        from mtlbook.book import commands

        return commands.main(arguments)
    except ModuleNotFoundError as error:  # some are imported when a command needs them
        missing = (error.name or "").partition(".")[0]
        if missing == "mtlbook":
            raise
        sys.stderr.write(
            f"mtlbook: the command needs the extra 'book' ({missing} is missing): "
            "pip install 'mtlbook[book]', or in a clone pip install -e '.[book]'\n"
        )
        return WITHOUT_THE_BOOK


if __name__ == "__main__":
    sys.exit(main())
