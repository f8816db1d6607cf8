"""A table as a notebook shows it: text to the left, numbers to the right, no stray header.

pandas writes the name of the columns' own level into a column that is otherwise empty, and puts
everything to the right.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

MISSING = "–"
NUMBER = re.compile(r"[-+−]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?( ?%)?|[-+−]?inf")


def render(frame: pd.DataFrame, digits: int, caption: str | None = None) -> tuple[str, str]:
    """The table as plain text and as HTML, with a fixed number of decimals.

    A named index becomes columns; one without a name stays if it is more than row numbers.
    Underscores in names become blanks, and the levels of a header are joined by commas.

    Example:
        >>> wide = pd.DataFrame(
        ...     {"loss_of_a": [0.5, 0.25], "chosen": ["rate 0.1", None]},
        ...     index=pd.Index(["single-task", "hard sharing"], name="method"),
        ... )
        >>> print(render(wide, 2, "Losses.")[0])
        Losses.
        method        loss of a  chosen
        single-task        0.50  rate 0.1
        hard sharing       0.25  –
    """
    header, rows = _cells(frame, digits)
    is_number = [
        all(NUMBER.fullmatch(cell) or cell == MISSING for cell in column)
        for column in zip(*rows, strict=True)
    ] or [False] * len(header)
    return _plain(header, rows, is_number, caption), _html(header, rows, is_number, caption)


def _cells(frame: pd.DataFrame, digits: int) -> tuple[list[str], list[list[str]]]:
    """The texts of the header and of each row."""
    names = [_name(column) for column in frame.columns]
    columns: list[Sequence[Any]] = [frame.iloc[:, place].tolist() for place in range(len(names))]
    levels = list(frame.index.names)
    if any(level is not None for level in levels) or not isinstance(frame.index, pd.RangeIndex):
        names = ["" if level is None else _name(level) for level in levels] + names
        columns = [
            frame.index.get_level_values(place).tolist() for place in range(len(levels))
        ] + columns
    texts = [[_text(value, digits) for value in column] for column in columns]
    return names, [list(row) for row in zip(*texts, strict=True)]


def _name(name: Any) -> str:
    parts = name if isinstance(name, tuple) else (name,)
    return ", ".join(str(part).replace("_", " ") for part in parts if str(part))


def _text(value: Any, digits: int) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return MISSING
    if not isinstance(value, float | np.floating):
        return str(value)
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("-") and float(text) == 0 else text  # no −0.000


def _plain(
    header: list[str], rows: list[list[str]], is_number: list[bool], caption: str | None
) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([caption, *lines] if caption else lines)


def _html(
    header: list[str], rows: list[list[str]], is_number: list[bool], caption: str | None
) -> str:
    # GitHub heeds the attribute alone, JupyterLab the style alone.
    sides = ["right" if right else "left" for right in is_number]

    def line(kind: str, row: list[str]) -> str:
        return "".join(
            f'<{kind} align="{side}" style="text-align: {side}">{escape(cell)}</{kind}>'
            for cell, side in zip(row, sides, strict=True)
        )

    return "\n".join(
        [
            '<table class="dataframe">',
            *([f"  <caption>{escape(caption)}</caption>"] if caption else []),
            f"  <thead>\n    <tr>{line('th', header)}</tr>\n  </thead>",
            "  <tbody>",
            *(f"    <tr>{line('td', row)}</tr>" for row in rows),
            "  </tbody>\n</table>",
        ]
    )
