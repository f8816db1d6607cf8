"""The ledger of claims: what the overview says, and what the experiments found.

`claims.toml` states each claim before its experiment runs. A notebook records a result per claim
and data set; `mtlbook report` merges the results, corrects their p-values over the whole ledger,
and writes the table of the README.
"""

import functools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from mtlbook.book.files import write_atomically
from mtlbook.errors import UsageError
from mtlbook.statistics import LEAST_SEEDS, Effect, Verdict, holm, verdict

Role = Literal["mechanism present", "mechanism off", "real data"]

SIGNIFICANCE = 0.05
# What each verdict says in words, in the order in which a ledger counts them.
MEANINGS: dict[Verdict, str] = {
    "supported": "above zero beyond doubt, and the best estimate is large enough to matter",
    "slight": "above zero beyond doubt, but perhaps too small to matter",
    "negligible": "too small to matter in either direction",
    "undecided": "the interval leaves open whether it matters",
    "refuted": "an improvement that matters is ruled out",
    "harmful": "worse beyond doubt, by an amount that matters",
    "passed": "the effect is larger where the mechanism is present",
    "failed": "switching the mechanism off costs nothing that matters",
    "too few seeds": f"a verdict needs at least {LEAST_SEEDS} seeds",
}


@dataclass(frozen=True)
class Claim:
    """A claim of the overview that an experiment can test: a `[[claim]]` of `claims.toml`.

    `quote` is the sentence of the overview, or of the method's paper, that is tested. `method` and
    `baseline` name what is compared by `metric`; `better` is the direction in which the claim says
    that the method is better. `smallest` is the smallest effect that would matter, in percent of
    the mean baseline if `relative`, else in the metric's unit. `roles` says of each data set on
    which the claim is recorded what it is for. A control is measured with the mechanism off and
    names the claim `of` which it is the control: its effect is the difference, on minus off.
    """

    id: str
    section: str
    statement: str
    source: str
    method: str
    baseline: str
    metric: str
    better: Literal["lower", "higher"]
    smallest: float
    roles: Mapping[str, Role]
    quote: str = ""
    relative: bool = False
    of: str = ""

    @property
    def control(self) -> bool:
        """Whether the mechanism is switched off."""
        return bool(self.of)

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger metric is better for the method."""
        return self.better == "higher"

    @property
    def unit(self) -> str:
        """The unit of the effect: percent of the baseline, or none, which is that of the metric."""
        return "%" if self.relative else ""


class Record(TypedDict):
    """The result of one claim on one data set, as `claims.json` holds it."""

    id: str
    section: str
    statement: str
    effect: float
    low: float
    high: float
    p: float
    smallest: float
    seeds: int
    verdict: Verdict
    data: str
    notebook: str
    role: Role


@dataclass(frozen=True)
class Result:
    """A claim as it was measured on one data set.

    `contributions` holds what each seed contributes to the effect, in the effect's unit.
    """

    claim: Claim
    record: Record
    contributions: Float[np.ndarray, "seeds"]

    def __str__(self) -> str:
        """The effect with its interval and its unit."""
        return effect_of(self.claim, self.effect)

    @property
    def effect(self) -> Effect:
        """The effect, as it is recorded."""
        one = self.record
        return Effect(one["effect"], one["low"], one["high"], one["p"], one["seeds"])

    @property
    def verdict(self) -> Verdict:
        """What the effect says about the claim."""
        return self.record["verdict"]

    def choose(self, *, otherwise: str, **sentences: str) -> str:
        """The sentence that was written for the verdict, or `otherwise`.

        Verdicts of two words are written with underscores.
        """
        return choose(self.verdict, otherwise, sentences)


def choose(verdict: str, otherwise: str, sentences: Mapping[str, str]) -> str:
    """The sentence for a verdict, or `otherwise` where there is none.

    Raises:
        UsageError: for a sentence whose verdict does not exist.
    """
    known = {name.replace(" ", "_") for name in get_args(Verdict)}
    unknown = sorted(set(sentences) - known)
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no verdict: there are {', '.join(sorted(known))}")
    return sentences.get(verdict.replace(" ", "_"), otherwise)


@functools.cache
def claims() -> dict[str, Claim]:
    """Every claim of the book by its id, from `claims.toml`."""
    return parse(
        resources.files("mtlbook.book").joinpath("claims.toml").read_text(encoding="utf-8")
    )


def parse(text: str) -> dict[str, Claim]:
    """Claims by id from the text of a `claims.toml`.

    Raises:
        UsageError: naming the claim and what is wrong with it.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"claims.toml is not valid TOML: {error}") from error
    unknown = sorted(set(document) - {"claim"})
    if unknown:
        raise UsageError(f"claims.toml: unknown table {unknown[0]!r}; a claim starts by [[claim]]")
    found: dict[str, Claim] = {}
    for number, entry in enumerate(document.get("claim", []), start=1):
        claim = _claim(entry, f"claim {entry.get('id', f'number {number}')!r} of claims.toml")
        if claim.id in found:
            raise UsageError(f"claims.toml: two claims have the id {claim.id!r}; rename one")
        found[claim.id] = claim
    for claim in found.values():
        if claim.of and claim.of not in found:
            raise UsageError(f"claims.toml: {claim.id!r} is the control of no claim: {claim.of!r}")
    return found


def _claim(entry: dict[str, Any], name: str) -> Claim:
    known = {field.name: field for field in fields(Claim)}
    missing = [key for key, field in known.items() if field.default is MISSING and key not in entry]
    if missing:
        raise UsageError(f"{name} lacks {', '.join(missing)}")
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise UsageError(f"{name}: unknown key {unknown[0]!r}; possible are {', '.join(known)}")
    for key, value in entry.items():
        if known[key].type is str and (not isinstance(value, str) or not value):
            raise UsageError(f"{name}: {key} must be a text that is not empty, not {value!r}")
        if known[key].type is bool and not isinstance(value, bool):
            raise UsageError(f"{name}: {key} must be true or false, not {value!r}")
    if entry["better"] not in ("lower", "higher"):
        raise UsageError(f'{name}: better must be "lower" or "higher", not {entry["better"]!r}')
    if not re.fullmatch(r"\d+(\.\d+)*", entry["section"]):
        raise UsageError(f"{name}: section must be numbers and dots, not {entry['section']!r}")
    roles, possible = entry.get("roles", {}), get_args(Role)
    if not isinstance(roles, dict) or any(role not in possible for role in roles.values()):
        raise UsageError(
            f"{name}: roles must give each data set one of {', '.join(possible)}, not {roles!r}"
        )
    if any((role == "mechanism off") != ("of" in entry) for role in roles.values()):
        raise UsageError(
            f'{name}: a control, and nothing else, has the role "mechanism off" on all its data, '
            "and `of`: the claim that it belongs to"
        )
    smallest = entry["smallest"]
    if isinstance(smallest, bool) or not isinstance(smallest, int | float) or not smallest > 0:
        raise UsageError(f"{name}: smallest must be a number above 0, not {smallest!r}")
    return Claim(**{**entry, "smallest": float(smallest)})


def role(claim: Claim, data: str) -> Role:
    """What a data set is for in a claim.

    Raises:
        UsageError: for data that `claims.toml` does not name for the claim.
    """
    if data not in claim.roles:
        raise UsageError(
            f"claims.toml gives the claim {claim.id!r} no role on {data!r}; "
            f"it knows: {', '.join(claim.roles) or 'no data set'}"
        )
    return claim.roles[data]


def record(claim: Claim, effect: Effect, data: str, notebook: str) -> Record:
    """The result of a claim, its numbers rounded to 6 significant digits.

    The verdict is that of the rounded numbers, so that a difference between machines in the last
    digits can change neither a number nor the verdict.
    """
    rounded = Effect(
        estimate=_significant(effect.estimate),
        low=_significant(effect.low),
        high=_significant(effect.high),
        p=_significant(effect.p),
        seeds=effect.seeds,
    )
    return Record(
        id=claim.id,
        section=claim.section,
        statement=claim.statement,
        effect=rounded.estimate,
        low=rounded.low,
        high=rounded.high,
        p=rounded.p,
        smallest=claim.smallest,
        seeds=effect.seeds,
        verdict=verdict(rounded, claim.smallest, control=claim.control),
        data=data,
        notebook=notebook,
        role=role(claim, data),
    )


def _significant(value: float) -> float:
    rounded = float(f"{value:.6g}")
    return rounded if rounded else 0.0  # no −0.0


def read(path: Path) -> list[Record]:
    """The records of a section's file or of a whole ledger; none where there is no such file."""
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        records = content["claims"] if isinstance(content, dict) else content
        wrong = [one for one in records if set(one) != set(Record.__annotations__)]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path.name} does not hold records of claims: delete it and run again"
        ) from error
    if wrong:
        raise UsageError(
            f"{path.name} holds a record without exactly the keys "
            f"{', '.join(Record.__annotations__)}: delete it and run again"
        )
    return records


def merge(*collections: Iterable[Record]) -> list[Record]:
    """All records, sorted; of two with the same claim and data the later one."""
    newest = {(one["id"], one["data"]): one for records in collections for one in records}
    return sorted(newest.values(), key=_order)


def _order(one: Record) -> tuple[tuple[int, ...], str, str]:
    numbers = tuple(int(part) for part in one["section"].split("."))  # 3.10 comes after 3.9
    return numbers, one["id"], one["data"]


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a whole ledger, `{"claims": [...]}`: sorted, and atomically."""
    _write(path, {"claims": merge(records)})


def write_section(path: Path, records: Iterable[Record]) -> None:
    """Write the records of one section, a list: sorted, and atomically."""
    _write(path, merge(records))


def _write(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record with its p-value corrected over all records (Holm).

    `survives` is False where a verdict that asserts an effect (*supported*, *slight*, *harmful*,
    *passed*) has a corrected p-value above 5 %; the others have nothing to survive.
    """
    frame = pd.DataFrame(merge(records), columns=list(Record.__annotations__))
    frame["unit"] = [claims()[one].unit if one in claims() else "" for one in frame["id"]]
    frame["p_holm"] = holm(frame["p"].to_numpy(dtype=np.float64))
    asserted = frame["verdict"].isin(["supported", "slight", "harmful", "passed"])
    frame["survives"] = ~asserted | (frame["p_holm"] <= SIGNIFICANCE)
    return frame


def effect_of(claim: Claim, effect: Effect) -> str:
    """An effect in the unit of a claim, with its interval."""
    return effect_text(effect.estimate, effect.low, effect.high, claim.unit)


def effect_text(effect: float, low: float, high: float, unit: str) -> str:
    """An effect with its interval and unit, to 3 digits of the largest number.

    Example:
        >>> effect_text(12.345, 8.1, 15.21, "%")
        '+12.3 % [+8.1, +15.2]'
    """
    largest = max(abs(effect), abs(low), abs(high))
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 2
    style = f"+.{decimals}f" if decimals <= 6 else "+.2e"
    return f"{effect:{style}} {unit}".rstrip() + f" [{low:{style}}, {high:{style}}]"
