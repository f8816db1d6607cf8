"""Studies: experiments on downloaded data, run on demand; the chapters show what they recorded.

A study is a module of this folder: its docstring is its protocol, `SECTION` the section that shows
it, `DATA` the data sets of the registry that it needs, `SEEDS` how many replicates it has, and
`run(seeds, device)` returns its results as a tidy table: columns `seed`, `metric` and `value`
beside what the rows are told apart by.

`mtlbook study NAME` fetches the data and runs it. Its record is kept in the package, so that a
chapter shows it wherever the chapter runs, with no network and no data at hand.
"""

import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pandas as pd
import torch

from mtlbook.book.files import write_atomically
from mtlbook.data import registry
from mtlbook.errors import UsageError

RECORDS = Path(__file__).parent / "records"
SIGNIFICANT_DIGITS = 6
# What the digits of a study depend on beside its source.
LIBRARIES = ("numpy", "scikit-learn", "torch")


@runtime_checkable
class Study(Protocol):
    """What the module of a study holds."""

    SECTION: str
    DATA: tuple[str, ...]
    SEEDS: int
    run: Callable[[Sequence[int], str], pd.DataFrame]


@dataclass(frozen=True)
class Record:
    """What a study found, and where it comes from.

    Attributes:
        study: its name.
        section: the section of the book that shows it.
        seeds: of its replicates.
        files: the SHA-256 of each file of each data set that it read.
        versions: of the libraries that it ran with.
        rows: the tidy table, a dictionary a row.
    """

    study: str
    section: str
    seeds: list[int]
    files: dict[str, dict[str, str]]
    versions: dict[str, str]
    rows: list[dict[str, Any]]

    @property
    def results(self) -> pd.DataFrame:
        """The results as a tidy table: columns seed, metric, value and what tells rows apart."""
        return pd.DataFrame(self.rows)

    @property
    def provenance(self) -> str:
        """In one sentence: data, seeds, libraries, and the command that runs the study again."""
        files = ", ".join(
            f"{name}/{file} (SHA-256 {digest[:8]}…)"
            for name, of_set in self.files.items()
            for file, digest in of_set.items()
        )
        libraries = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"Recorded by `mtlbook study {self.study}` from {files}, {len(self.seeds)} seeds "
            f"({self.seeds[0]} to {self.seeds[-1]}), with {libraries}."
        )


def names() -> list[str]:
    """All studies."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def study(name: str) -> Study:
    """The module of a study.

    Raises:
        UsageError: for an unknown name, with the names that there are.
    """
    if name not in names():
        raise UsageError(f"There is no study {name!r}: choose one of {', '.join(names())}.")
    return cast(Study, importlib.import_module(f"{__name__}.{name}"))


def run(name: str, seeds: Sequence[int], device: str = "auto") -> Record:
    """Fetch a study's data, run it for these seeds, and return what it found.

    Raises:
        UsageError: for an unknown study, data that cannot be fetched, or results that are not
            finite.
    """
    chosen = study(name)
    for needed in chosen.DATA:
        registry.fetch(needed)
    # As in the chapters: small matrices are slower with more threads, and digits stay the same.
    torch.set_num_threads(1)
    results = chosen.run(seeds, device)
    wrong = results[~results["value"].map(math.isfinite)]
    if len(wrong):
        raise UsageError(
            f"The study {name} has a result that is not finite: {wrong.iloc[0].to_dict()}."
        )
    return Record(
        study=name,
        section=chosen.SECTION,
        seeds=list(seeds),
        files={
            needed: {remote.file: remote.sha256 for remote in registry.data_set(needed).files}
            for needed in chosen.DATA
        },
        versions={library: metadata.version(library) for library in LIBRARIES},
        rows=[_plain(row) for row in results.to_dict(orient="records")],
    )


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A row in Python's own types, its value rounded: what is returned is what is read again."""
    cells = {name: cell.item() if hasattr(cell, "item") else cell for name, cell in row.items()}
    return cells | {"value": float(f"{cells['value']:.{SIGNIFICANT_DIGITS}g}")}


def write(record: Record, folder: Path = RECORDS) -> Path:
    """Write a record as `<study>.json`, a row of results a line, and return its path."""
    content = asdict(record)
    rows = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in content.pop("rows"))
    head = json.dumps(content, ensure_ascii=False, indent=2).removesuffix("\n}")
    path = folder / f"{record.study}.json"
    write_atomically(path, f'{head},\n  "rows": [\n    {rows}\n  ]\n}}\n'.encode())
    return path


def read(name: str, folder: Path = RECORDS) -> Record:
    """The record of a study.

    Raises:
        UsageError: for an unknown study, or one that was never recorded.
    """
    study(name)
    path = folder / f"{name}.json"
    if not path.is_file():
        raise UsageError(
            f"The study {name} has no record yet: run mtlbook study {name} --update to make it."
        )
    return Record(**json.loads(path.read_text(encoding="utf-8")))
