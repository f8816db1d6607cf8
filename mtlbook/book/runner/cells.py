"""The cells of a notebook's file, read as plain JSON: nbformat takes a second to import."""

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """What a cell is, without its outputs."""

    kind: str
    source: str
    tags: tuple[str, ...]


def read_cells(notebook: str) -> list[Cell]:
    """The cells of a notebook of format 4.

    Raises:
        ValueError: if the text is none.
    """
    content = json.loads(notebook)
    try:
        if content["nbformat"] != 4:
            raise ValueError(f"a notebook of format {content['nbformat']}, not 4")
        return [_cell(one) for one in content["cells"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not a notebook") from error


def without_magic(source: str) -> str:
    """A cell without IPython's own lines, such as `%time` and `!ls`."""
    lines = source.split("\n")
    return "\n".join("" if line.startswith(("%", "!")) else line for line in lines)


def reads_ledger(cells: Iterable[Cell]) -> bool:
    """Whether a page is made from what the other pages found: it calls `page.ledger()`."""
    return any(_calls_ledger(cell.source) for cell in cells if cell.kind == "code")


def _calls_ledger(source: str) -> bool:
    try:
        tree = ast.parse(without_magic(source))
    except (SyntaxError, ValueError):
        return False
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "page.ledger"
        for node in ast.walk(tree)
    )


def _cell(cell: dict[str, Any]) -> Cell:
    tags = cell["metadata"].get("tags", [])
    # A file may hold a source as one text or as its lines.
    return Cell(cell["cell_type"], "".join(cell["source"]), tuple(tags))
