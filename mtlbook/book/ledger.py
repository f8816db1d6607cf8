"""Everything that the book found, in one table: each claim on each data set, with both verdicts.

A page runs 16 seeds; the replication runs 64 others, and its verdict is the book's. The pages that
show the book as a whole, and `mtlbook report`, are made from this table.
"""

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import pandas as pd

from mtlbook.book import claims, replication
from mtlbook.book.claims import MEANINGS, Record, Role
from mtlbook.book.replication import Replication

MEASURED = ("effect", "low", "high", "p", "seeds", "verdict")
"""What a page and the replication each find."""


def read() -> list[Record]:
    """The ledger: the one that a run has just merged, or else the committed one, if any."""
    path = replication.newest("claims.json")
    return claims.read(path) if path else []


def frame(
    records: Iterable[Record] | None = None, replicated: Replication | None = None
) -> pd.DataFrame:
    """A row for each claim and data set, in the order of the ledger.

    Its columns:

    - id, section, statement, role, data, notebook, of the record; smallest, the smallest effect
      that matters; unit, "%" or none, which is that of the claim's metric;
    - metric, source, quote: of the claim, as `claims.toml` states it;
    - effect, low, high, p, seeds, verdict: the book's, which are the replication's where there is
      one, else the page's;
    - p_holm, survives: as in :func:`mtlbook.book.claims.table`, over the book's;
    - page_effect, …, page_verdict and replication_effect, …, replication_verdict: the two apart,
      empty where there is none;
    - agreement: "same verdict", "other verdict", "opposite verdict", "not replicated", or "one
      study" where both are the same recorded study.

    Arguments:
        records: the ledger of the pages; default: :func:`read`.
        replicated: default: that which belongs to the ledger.
    """
    records = list(read() if records is None else records)
    replicated = replication.read() if replicated is None else replicated
    page = {_key(one): one for one in records}
    again = {_key(one): one for one in replicated.records}
    table = claims.table(verdicts_of_the_book(records, replicated))
    stated = [claims.claims().get(one) for one in table["id"]]
    for name in ("metric", "source", "quote"):
        table[name] = [getattr(claim, name) if claim else "" for claim in stated]
    keys = list(zip(table["id"], table["data"], strict=True))
    for prefix, found in {"page": page, "replication": again}.items():
        for name in MEASURED:
            missing = "" if name == "verdict" else np.nan
            values = [found[key][name] if key in found else missing for key in keys]
            table[f"{prefix}_{name}"] = values
    table["agreement"] = [_agreement(page[key], again.get(key)) for key in keys]
    return table


def verdicts_of_the_book(records: Iterable[Record], replicated: Replication) -> list[Record]:
    """The record of each claim and data set: the replication's, or the page's where it has none.

    What a page does not record any more is left out, replicated or not.
    """
    pages = list(records)
    known = {_key(one) for one in pages}
    return claims.merge(pages, (one for one in replicated.records if _key(one) in known))


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """How often the book gives each verdict (rows, those that occur) in each role (columns)."""
    table = pd.crosstab(frame["verdict"], frame["role"])
    rows = [verdict for verdict in MEANINGS if verdict in table.index]
    columns = [role for role in get_args(Role) if role in table.columns]
    return table.loc[rows, columns]


def _key(record: Record) -> tuple[str, str]:
    return record["id"], record["data"]


def _agreement(page: Record, again: Record | None) -> str:
    if again is None:
        return "not replicated"
    if all(page[name] == again[name] for name in ("effect", "low", "high", "seeds")):
        return "one study"
    if page["verdict"] == again["verdict"]:
        return "same verdict"
    opposite = {page["verdict"], again["verdict"]} in _OPPOSITES
    return "opposite verdict" if opposite else "other verdict"


_OPPOSITES: Sequence[set[str]] = (
    {"supported", "harmful"},
    {"slight", "harmful"},
    {"supported", "refuted"},
    {"passed", "failed"},
)
