"""What the book found, in the README: how many claims got which verdict."""

from pathlib import Path

import pandas as pd

from mtlbook.book import ledger
from mtlbook.book.files import write_atomically
from mtlbook.errors import UsageError

BEGIN = "<!-- claims:begin -->"
END = "<!-- claims:end -->"
COLUMNS = {
    "mechanism present": "constructed data",
    "real data": "real data",
    "mechanism off": "controls",
}


def with_summary(readme: str, frame: pd.DataFrame) -> str:
    """The README's text with the counts of verdicts between its two marks.

    Arguments:
        readme: the text.
        frame: of :func:`mtlbook.book.ledger.frame`.

    Raises:
        UsageError: if the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"README.md lacks the marks {BEGIN} and {END}; put them around the table")
    return f"{before}{BEGIN}\n\n{summary(frame)}\n{END}{after}"


def summary(frame: pd.DataFrame) -> str:
    """The counts as a table in Markdown, below a sentence on the two sets of seeds."""
    counts = ledger.counts(frame)
    columns = [role for role in COLUMNS if role in counts.columns]
    lines = [
        f"| verdict | {' | '.join(COLUMNS[role] for role in columns)} |",
        "|---|" + "--:|" * len(columns),
    ]
    lines += [
        f"| {verdict} | {' | '.join(str(row[role] or '') for role in columns)} |"
        for verdict, row in counts.iterrows()
    ]
    agreement = frame["agreement"].to_list()
    same, other, opposite = (
        agreement.count(f"{one} verdict") for one in ("same", "other", "opposite")
    )
    sentence = (
        f"{frame['id'].nunique()} claims and controls with {len(frame)} results; of the "
        f"{same + other + opposite} that were replicated, {same} have the verdict of the page's "
        f"own 16 seeds, and {opposite} the opposite one."
    )
    return "\n".join([sentence, "", *lines]) + "\n"


def update_readme(readme: Path, frame: pd.DataFrame) -> None:
    """Write the summary of the ledger into the README."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {readme}; run inside a clone of mtlbook") from error
    write_atomically(readme, with_summary(text, frame).encode())
