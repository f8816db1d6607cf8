"""Hashes that tell whether a chapter's results are still those of its source."""

import ast
import hashlib
import json
from collections.abc import Mapping

from mtlbook.book.runner.cells import read_cells, without_magic


def source_hash(notebook: str) -> str:
    """The hash of a notebook's cells without their outputs."""
    cells = [(cell.kind, cell.source, cell.tags) for cell in read_cells(notebook)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


WORDS = ("page.answer", "page.finding", "page.figure", "page.model", "page.table")
"""Calls that show what was computed, and compute nothing."""


def results_fingerprint(notebook: str, code: str, parameters: Mapping[str, object]) -> str:
    """The hash of what the effects that a chapter finds depend on.

    Not so of prose and outputs, of comments and layout, of what only shows, or of the lock: other
    versions of the dependencies change the last digits, and no verdict.

    Arguments:
        notebook: its text.
        code: the hash of what its effects depend on in the package.
        parameters: all of the notebook's.
    """
    cells = [cell for cell in read_cells(notebook) if cell.kind == "code"]
    # The parameters' cell holds the committed values, and others are asked for.
    computed = [_computed(cell.source) for cell in cells if "parameters" not in cell.tags]
    parts = [
        json.dumps([one for one in computed if one]),
        code,
        json.dumps(parameters, sort_keys=True),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _computed(source: str) -> str:
    try:
        tree = ast.parse(without_magic(source))
    except (SyntaxError, ValueError):
        return source  # its own line in a traceback will say so
    kept = [statement for statement in tree.body if not _shows(statement)]
    return "\n".join(map(ast.unparse, kept))


def _shows(statement: ast.stmt) -> bool:
    """Whether a statement is words: a text alone, or a call that shows."""
    match statement:
        case ast.Expr(value=ast.Call(func=function)):
            return ast.unparse(function) in WORDS
        case ast.Expr(value=ast.Constant()):
            return True
    return False


def fingerprint(
    notebook: str,
    code: str,
    requirements: bytes,
    parameters: Mapping[str, object],
    ledger: Mapping[str, bytes],
) -> str:
    """The hash of all that a chapter's results depend on.

    Arguments:
        notebook: its text.
        code: the hash of what it reaches of the package.
        requirements: the lock of the dependencies.
        parameters: those that differ from the notebook's own.
        ledger: the files of what other pages or seeds found that it may show.
    """
    parts = [
        source_hash(notebook),
        code,
        hashlib.sha256(requirements).hexdigest(),
        json.dumps(parameters, sort_keys=True),
        *(f"{name} {hashlib.sha256(ledger[name]).hexdigest()}" for name in sorted(ledger)),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
