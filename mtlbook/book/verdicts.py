"""The book's results for people: a row a claim for its forest plot, a table, and what surprises."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mtlbook.book.claims import claims, effect_text

MISSED = ("harmful", "refuted", "negligible")


def forest_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The results with a short label a claim, under which its control stands, too.

    Arguments:
        found: of :func:`mtlbook.book.ledger.frame`.

    Returns:
        Columns label, section, role, smallest, estimate, low and high, for
        :func:`mtlbook.book.figures.forest`. Of several data sets of one role, the first.
    """
    stated = claims()
    own = [one for one in found["id"] if one in stated]
    labels = {one: (stated[one].of or one).partition("-")[2].replace("-", " ") for one in own}
    frame = found.loc[found["id"].isin(own)].assign(
        label=lambda rows: rows["id"].map(labels),
        section=lambda rows: "§" + rows["section"],
        estimate=lambda rows: rows["effect"],
    )
    columns = ["label", "section", "role", "smallest", "estimate", "low", "high"]
    return frame[columns].drop_duplicates(["label", "section", "role"], ignore_index=True)


def result_table(found: pd.DataFrame) -> pd.DataFrame:
    """All results as text: a † marks a verdict whose corrected p-value is above 5 %."""
    return pd.DataFrame(
        {
            "§": found["section"],
            "claim": found["statement"],
            "data": found["data"],
            "effect": [_effect(row) for row in found.to_dict("records")],
            "seeds": found["seeds"],
            "p (Holm)": found["p_holm"],
            "verdict": found["verdict"].where(found["survives"], found["verdict"] + " †"),
        }
    )


def surprises(found: pd.DataFrame) -> list[str]:
    """Sentences on what the overview would not lead one to expect, computed from the verdicts.

    They are claims that come out harmful or refuted where their mechanism is present, claims that
    hold on constructed data and miss on real data, and controls that fail.
    """
    verdict, present = found["verdict"], found["role"] == "mechanism present"
    holds = found["id"].isin(found.loc[present & (verdict == "supported"), "id"])
    real = holds & (found["role"] == "real data") & verdict.isin(MISSED)
    kinds = {
        "{data}, {verdict}": present & verdict.isin(["harmful", "refuted"]),
        "holds on constructed data, {verdict} on {data}": real,
        "a control that failed": verdict == "failed",
    }
    sentences = [
        f"**§{row['section']}, {what.format_map(row)}** ({_effect(row)}): {row['statement']}"
        for what, chosen in kinds.items()
        for row in found.loc[chosen].to_dict("records")
    ]
    return sentences or ["Nothing: every claim that was tested came out as the overview says."]


def _effect(row: Mapping[Any, Any]) -> str:
    return effect_text(row["effect"], row["low"], row["high"], row["unit"])
