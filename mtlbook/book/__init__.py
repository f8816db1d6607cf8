"""What makes a book of the library: pages, claims, figures, exercises, studies, runner."""

import sys

INTERRUPTED = 130
WITHOUT_THE_BOOK = 2


def main() -> int:
    """The command `mtlbook`; without the extra `book` it says in one line how to get it."""
    try:
        from mtlbook.book import cli
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mtlbook":
            raise
        sys.stderr.write(
            f"mtlbook: the command needs the extra 'book' ({error.name} is missing): "
            "pip install 'mtlbook[book]', or in a clone pip install -e '.[book]'\n"
        )
        return WITHOUT_THE_BOOK
    return cli.main()
