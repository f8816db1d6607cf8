"""Hashes that tell whether a chapter's results are still those of its source."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import nbformat

import mtlbook


def package_hash() -> str:
    """The hash of the package's source: every module, table and recorded study of it."""
    folder = Path(mtlbook.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(
        path for path in folder.rglob("*") if path.suffix in {".py", ".toml", ".json"}
    ):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def source_hash(notebook: str) -> str:
    """The hash of a notebook's cells without their outputs."""
    cells = [
        (cell.cell_type, cell.source, cell.metadata.get("tags", []))
        for cell in nbformat.reads(notebook, as_version=4).cells
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def fingerprint(
    notebook: str, package: str, requirements: bytes, parameters: Mapping[str, object]
) -> str:
    """The hash of all that a chapter's results depend on.

    Arguments:
        notebook: its text.
        package: the package's hash.
        requirements: the lock of the dependencies.
        parameters: those that differ from the notebook's own.
    """
    parts = [
        source_hash(notebook),
        package,
        hashlib.sha256(requirements).hexdigest(),
        json.dumps(parameters, sort_keys=True),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
