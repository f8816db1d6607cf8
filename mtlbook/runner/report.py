"""The table of verdicts in the README."""

from collections.abc import Sequence
from pathlib import Path

from mtlbook import claims
from mtlbook.claims import Record
from mtlbook.errors import BookError
from mtlbook.files import write_atomically

BEGIN = "<!-- claims:begin -->"
END = "<!-- claims:end -->"


def with_table(readme: str, records: Sequence[Record]) -> str:
    """The README's text with the table of claims between its two marks.

    Raises:
        BookError: if the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BookError(f"README.md lacks the marks {BEGIN} and {END}; put them around the table")
    return f"{before}{BEGIN}\n\n{claims.markdown(records)}\n{END}{after}"


def update_readme(readme: Path, records: Sequence[Record]) -> None:
    """Write the table of claims into the README."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise BookError(f"cannot read {readme}; run inside a clone of mtlbook") from error
    write_atomically(readme, with_table(text, records).encode())
