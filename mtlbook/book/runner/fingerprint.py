"""Hashes that tell whether a chapter's results are still those of its source."""

import hashlib
import json
from collections.abc import Mapping

from mtlbook.book.runner.cells import read_cells


def source_hash(notebook: str) -> str:
    """The hash of a notebook's cells without their outputs."""
    cells = [(cell.kind, cell.source, cell.tags) for cell in read_cells(notebook)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def fingerprint(
    notebook: str, code: str, requirements: bytes, parameters: Mapping[str, object]
) -> str:
    """The hash of all that a chapter's results depend on.

    Arguments:
        notebook: its text.
        code: the hash of what it reaches of the package.
        requirements: the lock of the dependencies.
        parameters: those that differ from the notebook's own.
    """
    parts = [
        source_hash(notebook),
        code,
        hashlib.sha256(requirements).hexdigest(),
        json.dumps(parameters, sort_keys=True),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
