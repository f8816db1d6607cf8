"""Whether two runs of a cell show the same: text exactly, numbers within a tolerance.

A number is a token with a decimal point or an exponent; a whole number is text, since counts are
exact. Runs of blanks count as one, since a column is as wide as its widest number. Images are
not compared, only that there is one.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9

_NUMBER = re.compile(
    r"""
    [ \t]*                                     # padding
    (?<![\w.])                                 # not inside a word or a version such as 3.1.2
    ([-+−]? (?: (?: \d+\.\d* | \.\d+ ) (?: [eE][-+]?\d+ )? | \d+[eE][-+]?\d+ ) )
    (?! \w | \.\w )
    """,
    re.VERBOSE,
)
_PICTURE = re.compile(r'src="data:image/[^"]*"')
_BLANKS = re.compile(r"[ \t]+")


def differences(
    reference: Iterable[Mapping[str, Any]], actual: Iterable[Mapping[str, Any]]
) -> list[str]:
    """What differs between the outputs that a notebook stores and those of a new run."""
    expected, found = _contents(reference), _contents(actual)
    expected_kinds, found_kinds = _kinds(expected), _kinds(found)
    if expected_kinds != found_kinds:
        shown = [f"{kind}: {text}" for kind, text in found if kind not in expected_kinds]
        return [f"the outputs {expected_kinds} became {found_kinds}", *shown]
    pairs = zip(expected, found, strict=True)
    return [
        f"{kind}, {message}"
        for (kind, text), (_, new_text) in pairs
        if (message := text_difference(text, new_text))
    ]


def text_difference(reference: str, actual: str) -> str | None:
    """The first difference between two texts beyond the tolerance, or None.

    Example:
        >>> text_difference("loss 0.5000000 of 3 tasks", "loss 0.5000001 of 3 tasks")
        >>> text_difference("loss 0.5 of 3 tasks", "loss 0.6 of 3 tasks")
        "line 1: '0.5' became '0.6'"
        >>> text_difference("loss 0.5 of 3 tasks", "loss 0.5 of 4 tasks")
        "line 1: ' of 3 tasks' became ' of 4 tasks'"
    """
    line = 1
    # Splitting by a pattern with one group gives text, number, text, ..., text.
    pieces = zip_longest(_NUMBER.split(reference), _NUMBER.split(actual), fillvalue="")
    for position, (expected, found) in enumerate(pieces):
        is_number = position % 2 == 1 and expected and found
        if not (_close(expected, found) if is_number else _equal(expected, found)):
            return f"line {line}: {expected!r} became {found!r}"
        line += expected.count("\n")
    return None


def _close(expected: str, found: str) -> bool:
    return math.isclose(
        _value(expected), _value(found), rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE
    )


def _value(number: str) -> float:
    return float(number.replace("−", "-"))


def _equal(expected: str, found: str) -> bool:
    return _BLANKS.sub(" ", expected) == _BLANKS.sub(" ", found)


def _contents(outputs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What each output shows, as (kind, text): the kind is a stream's name or a MIME type."""
    contents: list[tuple[str, str]] = []
    for output in outputs:
        if output["output_type"] == "stream":
            contents.append((output["name"], output["text"]))
        elif output["output_type"] == "error":
            contents.append(("error", f"{output['ename']}: {output['evalue']}"))
        else:
            contents += [(kind, _text(kind, data)) for kind, data in sorted(output["data"].items())]
    return contents


def _text(kind: str, data: object) -> str:
    if kind.startswith("image/"):
        return ""
    text = data if isinstance(data, str) else json.dumps(data, sort_keys=True)
    return _PICTURE.sub("", text) if kind == "text/html" else text


def _kinds(contents: Sequence[tuple[str, str]]) -> list[str]:
    return [kind for kind, _ in contents]
