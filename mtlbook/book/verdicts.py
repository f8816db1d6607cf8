"""The book's results for people: a row a claim for its forest plot, a table, and what surprises."""

from collections.abc import Iterator

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
            "effect": [
                effect_text(row["effect"], row["low"], row["high"], row["unit"])
                for row in found.to_dict("records")
            ],
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
    sentences = [*_reversed(found), *_lost_on_real_data(found), *_failed_controls(found)]
    return sentences or ["Nothing: every claim that was tested came out as the overview says."]


def _reversed(found: pd.DataFrame) -> Iterator[str]:
    wrong = found["verdict"].isin(["harmful", "refuted"]) & (found["role"] == "mechanism present")
    for row in found.loc[wrong].to_dict("records"):
        where = f"§{row['section']}, {row['data']}, {row['verdict']}"
        yield f"**{where}** ({_effect(row)}): {_said(row)}"


def _lost_on_real_data(found: pd.DataFrame) -> Iterator[str]:
    holds = found.loc[
        (found["role"] == "mechanism present") & (found["verdict"] == "supported"), "id"
    ]
    missed = found["id"].isin(holds) & (found["role"] == "real data")
    for row in found.loc[missed & found["verdict"].isin(MISSED)].to_dict("records"):
        yield (
            f"**§{row['section']}, holds on constructed data, {row['verdict']} on {row['data']}** "
            f"({_effect(row)}): {_said(row)}"
        )


def _failed_controls(found: pd.DataFrame) -> Iterator[str]:
    for row in found.loc[found["verdict"] == "failed"].to_dict("records"):
        yield f"**§{row['section']}, a control that failed** ({_effect(row)}): {_said(row)}"


def _effect(row: dict[str, object]) -> str:
    return effect_text(
        *(float(str(row[key])) for key in ("effect", "low", "high")), unit=str(row["unit"])
    )


def _said(row: dict[str, object]) -> str:
    return str(row["statement"])
