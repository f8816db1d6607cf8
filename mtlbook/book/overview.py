"""The map of the overview: its sections, their pages, the questions, and the answers so far."""

import tomllib
from importlib import resources

import pandas as pd

from mtlbook.book import claims
from mtlbook.book.files import notebook_of

NAMES = {"mechanism present": "constructed", "real data": "real"}


def overview(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each section: section, title, question, notebook, verdict of its first claim.

    Arguments:
        found: of :func:`mtlbook.book.ledger.frame`.
    """
    text = resources.files("mtlbook.book").joinpath("overview.toml").read_text(encoding="utf-8")
    rows = [
        (*section, notebook_of(section[0]), _verdict(section[0], found))
        for section in tomllib.loads(text)["sections"]
    ]
    return pd.DataFrame(rows, columns=["section", "title", "question", "notebook", "verdict"])


def markdown_map(found: pd.DataFrame) -> str:
    """The map as a table in Markdown, with links for a page in the folder of the notebooks."""
    lines = ["| § | Page | Question | First claim |", "|---|---|---|---|"]
    for row in overview(found).to_dict("records"):
        link = row["notebook"].removeprefix("notebooks/")
        title = f"[{row['title']}]({link})" if link else f"{row['title']} *(to come)*"
        lines.append(f"| {row['section']} | {title} | {row['question']} | {row['verdict']} |")
    return "\n".join(lines)


def _verdict(section: str, found: pd.DataFrame) -> str:
    """The verdicts of a section's first claim: on constructed, then on real data."""
    own = [one for one in claims.claims().values() if one.section == section and not one.control]
    if not own:
        return ""
    rows = found.loc[found["id"] == own[0].id]
    return "; ".join(
        f"{name}: {', '.join(dict.fromkeys(rows.loc[rows['role'] == role, 'verdict']))}"
        for role, name in NAMES.items()
        if (rows["role"] == role).any()
    )
