"""What `figures/` must hold: the images that the notebooks show, and what they found."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlbook.book.replication import SEEDS, Replication
from mtlbook.statistics import LEAST_SEEDS
from tests.notebook_hygiene import Book, section_of

FIELDS = (
    "id",
    "section",
    "statement",
    "effect",
    "low",
    "high",
    "p",
    "smallest",
    "seeds",
    "verdict",
    "data",
    "notebook",
    "role",
)
NUMBERS = ("effect", "low", "high", "p", "smallest")


def figure_faults(books: Sequence[Book], files: Sequence[str]) -> list[str]:
    """Each image of a notebook is a file of its section, and the other way round."""
    sections = [section_of(Path(file).stem) for file in files]
    faults = [
        f"{file} belongs to no notebook"
        for file, section in zip(files, sections, strict=True)
        if section not in {book.section for book in books}
    ]
    for book in books:
        images = sum(
            "<figure" in str(output.get("data", {}).get("text/html", "")) for output in book.outputs
        )
        if images != sections.count(book.section):
            faults.append(
                f"{book.path} shows {images} images; "
                f"figures/ holds {sections.count(book.section)} of its section"
            )
    return faults


def ledger_faults(
    books: Sequence[Book], claims: Sequence[dict[str, Any]], ledger: dict[str, Any]
) -> list[str]:
    """What is wrong with `figures/claims.json`, given the notebooks and `claims.toml`."""
    if list(ledger) != ["claims"]:
        return [f"claims.json must hold `claims` alone, not {list(ledger)}"]
    records = ledger["claims"]
    malformed = [one for one in records if tuple(one) != FIELDS]
    if malformed:
        return [f"a record has not exactly the fields of a record, in order: {malformed[0]}"]
    faults = [f"{one['id']}: {fault}" for one in records for fault in record_faults(one)]
    faults += contradictions(records, books, claims)
    if records != sorted(records, key=order):
        faults.append("the records are not sorted by section, claim and data")
    if len({(one["id"], one["data"]) for one in records}) < len(records):
        faults.append("two records have the same claim and data")
    return faults


def order(record: dict[str, Any]) -> tuple[list[int], str, str]:
    """Where a record stands: section 3.10 behind 3.9."""
    return [int(part) for part in record["section"].split(".")], record["id"], record["data"]


def record_faults(record: Mapping[str, Any]) -> list[str]:
    """What is wrong with a record by itself."""
    control = record["role"] == "mechanism off"
    rule = verdict(*(record[key] for key in NUMBERS if key != "p"), control=control)
    wanted = {
        f"the verdict is {record['verdict']}, by its numbers {rule}": record["verdict"] == rule,
        "its interval is upside down": record["low"] <= record["high"],
        "p is no probability": 0 <= record["p"] <= 1,
        f"{record['seeds']} seeds, not at least {LEAST_SEEDS}": record["seeds"] >= LEAST_SEEDS,
        "its data has no name": bool(record["data"]),
        "a number has not 6 significant digits": all(
            math.isfinite(record[key]) and float(f"{record[key]:.6g}") == record[key]
            for key in NUMBERS
        ),
    }
    return [fault for fault, good in wanted.items() if not good]


def verdict(effect: float, low: float, high: float, smallest: float, *, control: bool) -> str:
    """The rule of the book: what an effect and its 95 % interval say of a claim."""
    if control:
        return "passed" if low > 0 else "failed" if high < smallest else "undecided"
    if low > 0 and effect >= smallest:
        return "supported"
    if high < 0 and effect <= -smallest:
        return "harmful"
    if high < smallest:
        return "negligible" if low > -smallest else "refuted"
    return "slight" if low > 0 else "undecided"


def contradictions(
    records: Sequence[dict[str, Any]], books: Sequence[Book], claims: Sequence[dict[str, Any]]
) -> list[str]:
    """Where the records, the notebooks and the claims that were stated do not fit together."""
    paths = {book.section: book.path.as_posix() for book in books}
    stated = {claim["id"]: claim for claim in claims}
    faults = []
    for one in records:
        claim = stated.get(one["id"], {})
        different = [
            key for key in ("section", "statement", "smallest") if claim.get(key) != one[key]
        ]
        faults += [f"{one['id']}: {key} is not that of claims.toml" for key in different]
        if one["role"] != claim.get("roles", {}).get(one["data"]):
            faults.append(f"{one['id']}: its role on {one['data']} is not that of claims.toml")
        if one["notebook"] != paths.get(one["section"]):
            faults.append(f"{one['id']}: {one['notebook']!r} is not the section's notebook")
    # A page records a claim on one data set of each role at least; others are its parameter's.
    recorded = {(one["id"], one["role"]) for one in records}
    faults += [
        f"{claim['id']} has no record of {role} though section {claim['section']} has a notebook"
        for claim in claims
        for role in dict.fromkeys(claim["roles"].values())
        if claim["section"] in paths and (claim["id"], role) not in recorded
    ]
    tested = {one["section"] for one in records}
    experiments = [book for book in books if not book.reads_ledger]
    return faults + [
        f"{book.path.as_posix()} records no claim"
        for book in experiments
        if book.section not in tested
    ]


def replication_faults(
    replicated: Replication, records: Sequence[Mapping[str, Any]], claims: Sequence[dict[str, Any]]
) -> list[str]:
    """What is wrong with `figures/replication.json`, given the ledger and `claims.toml`.

    What is missing or older than its code is no fault: `mtlbook report` warns of it.
    """
    stated = {claim["id"]: claim for claim in claims}
    own = {(one["id"], one["data"]): one for one in records}
    faults = [f"{one['id']}: {fault}" for one in replicated.records for fault in record_faults(one)]
    for one in replicated.records:
        page, claim = own.get((one["id"], one["data"])), stated.get(one["id"], {})
        if one["seeds"] != SEEDS and (page is None or page["seeds"] != one["seeds"]):
            faults.append(f"{one['id']} on {one['data']}: {one['seeds']} seeds, not {SEEDS}")
        if claim.get("smallest") != one["smallest"]:
            faults.append(f"{one['id']}: the smallest effect is not that of claims.toml")
    return faults
