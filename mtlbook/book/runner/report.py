"""The table of verdicts in the README."""

from collections.abc import Sequence
from pathlib import Path

from mtlbook.book import claims
from mtlbook.book.claims import Record
from mtlbook.book.files import write_atomically
from mtlbook.errors import UsageError

BEGIN = "<!-- claims:begin -->"
END = "<!-- claims:end -->"


def with_table(readme: str, records: Sequence[Record]) -> str:
    """The README's text with the table of claims between its two marks.

    Raises:
        UsageError: if the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"README.md lacks the marks {BEGIN} and {END}; put them around the table")
    return f"{before}{BEGIN}\n\n{claims.markdown(records)}\n{END}{after}"


def update_readme(readme: Path, records: Sequence[Record]) -> None:
    """Write the table of claims into the README."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {readme}; run inside a clone of mtlbook") from error
    write_atomically(readme, with_table(text, records).encode())
