"""The result of a claim as a small card: a text for terminals and tests, and HTML for readers.

Both hold the statement, a forest plot of one line with the smallest effect that matters, the
effect with its interval, the verdict in words, and the replication beside it.
"""

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mtlbook.book.claims import MEANINGS, Claim, Record, effect_text
from mtlbook.statistics import Verdict

COLUMNS = 49  # of the forest plot in the text
WIDTH, HEIGHT = 320, 18  # pixels of a line of the forest plot in the HTML
# Colour-blind safe, and readable on white and on black.
COLOURS: dict[Verdict, str] = {
    "supported": "#0a8f6c",
    "passed": "#0a8f6c",
    "slight": "#3a86c8",
    "harmful": "#d55e00",
    "refuted": "#d55e00",
    "failed": "#d55e00",
}
GREY = "#7f7f7f"


@dataclass(frozen=True)
class Line:
    """One line of a card: which seeds it is from, and their record."""

    label: str
    record: Record


def lines(record: Record, replication: Record | None, *, study: bool) -> list[Line]:
    """What a card compares: the page's seeds (or a recorded study's) and the replication's."""
    kind = "recorded study" if study else "this page"
    shown = [Line(f"{kind}, {record['seeds']} seeds", record)]
    if replication is not None and not study:
        shown.append(Line(f"replication, {replication['seeds']} fresh seeds", replication))
    return shown


def plain(claim: Claim, shown: Sequence[Line], *, off: str = "") -> str:
    """The card as text."""
    first, widest = shown[0].record, max(len(line.label) for line in shown)
    scale = _scale([line.record for line in shown])
    rows = [
        claim.statement,
        f"  {_contrast(claim, first)}",
    ]
    for line in shown:
        rows.append(f"  {line.label:{widest}}  {_drawn(line.record, scale)}")
        rows.append(f"  {'':{widest}}  {_said(claim, line.record)}")
    rows += [f"  {note}" for note in _notes(claim, shown, off)]
    return "\n".join(textwrap.fill(row, 100, subsequent_indent="  ") for row in rows)


def html(claim: Claim, shown: Sequence[Line], *, off: str = "") -> str:
    """The card as HTML without scripts, classes or vector graphics that a sanitiser removes."""
    first = shown[0].record
    scale = _scale([line.record for line in shown])
    body = "".join(
        f"<tr><td>{escape(line.label)}</td><td>{_picture(line.record, scale)}</td>"
        f"<td><b>{line.record['verdict']}</b></td>"
        f"<td>{escape(_effect(claim, line.record))}</td></tr>"
        for line in shown
    )
    notes = _notes(claim, shown, off)
    colour = COLOURS.get(shown[-1].record["verdict"], GREY)
    return (
        f'<div class="mtlbook-claim" style="border-left: 5px solid {colour}; '
        'padding: 2px 12px; margin: 6px 0">'
        f"<p><b>{escape(claim.statement)}</b></p>"
        f"<p>{escape(_contrast(claim, first))}</p>"
        f"<table>{body}</table>"
        f"<p><small>{'<br>'.join(map(escape, notes))}</small></p></div>"
    )


def _contrast(claim: Claim, record: Record) -> str:
    method = claim.method[:1].upper() + claim.method[1:]
    return (
        f"{method} against {claim.baseline}, by {claim.metric}; {record['data']} ({record['role']})"
    )


def _effect(claim: Claim, record: Record) -> str:
    return effect_text(record["effect"], record["low"], record["high"], claim.unit)


def _said(claim: Claim, record: Record) -> str:
    return f"{record['verdict']}: {_effect(claim, record)}, p = {record['p']:.3g}"


def _meaning(claim: Claim, record: Record) -> str:
    smallest = f"δ = {claim.smallest:g}{' %' if claim.relative else ''}"
    what = "The effect is that with the mechanism on minus that with it off. " * claim.control
    return (
        f"{what}{record['verdict'].capitalize()}: {MEANINGS[record['verdict']]} "
        f"({smallest} is the smallest effect that matters)."
    )


def _notes(claim: Claim, shown: Sequence[Line], off: str) -> list[str]:
    """What stands below the plot: the verdict's meaning, the effect off, a disagreement."""
    notes = [_meaning(claim, shown[0].record), off]
    verdicts = [line.record["verdict"] for line in shown]
    if len(set(verdicts)) > 1:
        page, fresh = verdicts
        replicated = f"{fresh} in the replication, which counts"
        notes.append(f"The two sets of seeds disagree: {page} here, {replicated}.")
    return [note for note in notes if note]


def _scale(records: Sequence[Record]) -> tuple[float, float]:
    """Where a forest plot begins and ends: around 0, ±δ and all intervals."""
    smallest = records[0]["smallest"]
    low = min(-smallest, *(one["low"] for one in records))
    high = max(smallest, *(one["high"] for one in records))
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _drawn(record: Record, scale: tuple[float, float]) -> str:
    """A forest plot in characters: ┊ is 0, δ the smallest effect that matters."""
    start, end = scale

    def place(value: float) -> int:
        return round((value - start) / (end - start) * (COLUMNS - 1))

    line = ["·"] * COLUMNS
    line[place(0.0)] = "┊"
    low, high = place(record["low"]), place(record["high"])
    line[low : high + 1] = "─" * (high - low + 1)
    line[low], line[high] = "├", "┤"
    line[place(record["smallest"])] = "δ"
    line[place(record["effect"])] = "●"
    return "".join(line)


def _picture(record: Record, scale: tuple[float, float]) -> str:
    """The same as an image, with its content as alternative text."""
    start, end = scale

    def place(value: float) -> str:
        return f"{(value - start) / (end - start) * WIDTH:.1f}"

    middle = HEIGHT // 2
    colour = COLOURS.get(record["verdict"], GREY)
    zero, low, high = place(0.0), place(record["low"]), place(record["high"])
    left, right = place(-record["smallest"]), place(record["smallest"])
    band = float(right) - float(left)
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<rect x="{left}" width="{band:.1f}" height="{HEIGHT}" fill="{GREY}" opacity=".25"/>'
        f'<path d="M{zero} 0V{HEIGHT}" stroke="{GREY}"/>'
        f'<path d="M{low} {middle}H{high}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{place(record["effect"])}" cy="{middle}" r="5" fill="{colour}"/></svg>'
    )
    source = base64.b64encode(drawing.encode()).decode()
    alt = (
        f"The effect {record['effect']:.3g} with its interval from {record['low']:.3g} to "
        f"{record['high']:.3g}; the band is ±{record['smallest']:g}."
    )
    return (
        f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(alt)}" '
        f'width="{WIDTH}" height="{HEIGHT}">'
    )
