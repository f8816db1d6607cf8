"""The values that a page's parameters may take: declared once, checked in two places.

A notebook declares a rule for each of its parameters where it opens its page::

    page = Page(
        "3.1",
        globals(),
        dataset=OneOf("constructed", "digits"),
        examples=Whole(10, 700),
        noise=Number(0, 100),
    )

There the rules are checked in the kernel, whoever set the values. `mtlbook run` reads the same call
from the notebook's text, without executing it, and refuses in the same words before any kernel
starts: so this module imports nothing that takes long.
"""

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mtlbook.errors import UsageError

LONGEST_VALUE = 60
"""Characters of a refused value that a message repeats."""

LONGEST_MESSAGE = 300

LONGEST_LIST = 32

Bound = int | float | str
"""A number, or what another parameter says: "support", or "2 * support"."""


@runtime_checkable
class Rule(Protocol):
    """What the values of one parameter have in common."""

    def expected(self, others: Mapping[str, object]) -> str:
        """The rule in words: "a whole number between 1 and 9"."""
        ...

    def accept(self, value: object, others: Mapping[str, object]) -> object:
        """The value in the parameter's own type.

        Raises:
            ValueError: if the rule excludes it.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both possible."""

    least: Bound
    most: Bound

    def expected(self, others: Mapping[str, object]) -> str:
        """The rule in words."""
        return f"a whole number {_between(self, others)}"

    def accept(self, value: object, others: Mapping[str, object]) -> int:
        """The number itself."""
        if type(value) is not int or not _lies_between(self, value, others):
            raise ValueError
        return value


@dataclass(frozen=True)
class Number:
    """A finite number between two bounds, both possible."""

    least: Bound
    most: Bound

    def expected(self, others: Mapping[str, object]) -> str:
        """The rule in words."""
        return f"a number {_between(self, others)}"

    def accept(self, value: object, others: Mapping[str, object]) -> float:
        """The number, a whole one too, as a float."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError
        if not _lies_between(self, value, others):
            raise ValueError
        return float(value)


@dataclass(frozen=True, init=False)
class OneOf:
    """One of several words."""

    choices: tuple[str, ...]

    def __init__(self, *choices: str):
        object.__setattr__(self, "choices", choices)

    def expected(self, others: Mapping[str, object]) -> str:  # noqa: ARG002
        """The rule in words."""
        return f"one of {', '.join(self.choices)}"

    def accept(self, value: object, others: Mapping[str, object]) -> str:  # noqa: ARG002
        """The word itself."""
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError
        return value


@dataclass(frozen=True)
class Device:
    """The name of a device; whether this machine has it is :func:`mtlbook.devices.resolve`'s."""

    def expected(self, others: Mapping[str, object]) -> str:  # noqa: ARG002
        """The rule in words."""
        return "auto, cpu, cuda or cuda:N"

    def accept(self, value: object, others: Mapping[str, object]) -> str:  # noqa: ARG002
        """The name itself."""
        if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
            raise ValueError
        return value


@dataclass(frozen=True)
class ListOf:
    """A list of values that each keep a rule.

    Arguments:
        each: that rule.
        length: how many; or the name of another list that has as many. Without one they are 1 to
            32 and all different: a trial or a place on a dial is not measured twice.
    """

    each: Whole | Number
    length: int | str | None = None

    def expected(self, others: Mapping[str, object]) -> str:
        """The rule in words."""
        if self.length is None:
            count = f"1 to {LONGEST_LIST} different values"
        else:
            count = f"{self.length} values" if isinstance(self.length, int) else "as many values"
            count += "" if isinstance(self.length, int) else f" as {self.length} has"
        return f"a list of {count}, each {self.each.expected(others)}"

    def accept(self, value: object, others: Mapping[str, object]) -> list[object]:
        """The list with each value in its own type."""
        # The length first: the elements of an endless list are not looked at.
        if not isinstance(value, list | tuple) or not self._has_length(value, others):
            raise ValueError
        accepted: list[object] = [self.each.accept(one, others) for one in value]
        if self.length is None and len(set(accepted)) < len(accepted):
            raise ValueError
        return accepted

    def _has_length(self, value: list | tuple, others: Mapping[str, object]) -> bool:
        if self.length is None:
            return 1 <= len(value) <= LONGEST_LIST
        if isinstance(self.length, int):
            return len(value) == self.length
        other = others.get(self.length)
        # Where the other one is no list at all, it is the one to be refused.
        return not isinstance(other, list | tuple) or len(value) == len(other)


RULES = {rule.__name__: rule for rule in (Whole, Number, OneOf, ListOf)}
"""What may stand in a page's call, by its name there."""

COMMON: dict[str, Rule] = {
    "seeds": Whole(2, 1_000),  # an interval needs two
    "first_seed": Whole(0, 2**31 - 1),  # every library's generator takes as much
    "device": Device(),
}
"""The rules of the parameters that every page has."""


def check(rules: Mapping[str, Rule], values: Mapping[str, object]) -> dict[str, object]:
    """The values in their parameters' own types.

    Raises:
        UsageError: for the first one that its rule excludes, or that is missing.

    Example:
        >>> check({"steps": Whole(1, 100)}, {"steps": 0})
        Traceback (most recent call last):
        mtlbook.errors.UsageError: parameter steps = 0: must be a whole number between 1 and 100
    """
    missing = [name for name in rules if name not in values]
    if missing:
        raise UsageError(f"parameter {missing[0]} is not set: it belongs in the parameters cell")
    accepted = {}
    for name, rule in rules.items():
        try:
            accepted[name] = rule.accept(values[name], values)
        except (OverflowError, ValueError):
            message = f"parameter {name} = {shown(values[name])}: must be {rule.expected(values)}"
            raise UsageError(shortened(message, LONGEST_MESSAGE)) from None
    return accepted


def shown(value: object) -> str:
    """A value as a message repeats it: the middle of a long one is left out."""
    try:
        return shortened(repr(value), LONGEST_VALUE)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists within lists
        return f"a {type(value).__name__} that is too long to be shown"


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters: its beginning and its end.

    Example:
        >>> shortened("abcdefghij", 7)
        'ab … ij'
    """
    if len(text) <= longest:
        return text
    end = (longest - 3) // 2
    return f"{text[: longest - 3 - end]} … {text[-end:]}"


def read(sources: Iterable[str]) -> dict[str, Rule]:
    """The rules in the call `Page(...)` of a notebook's code cells; nothing is executed.

    Raises:
        UsageError: if a rule is written in another way than with literals.
    """
    for source in sources:
        for call in _page_calls(source):
            keywords = {one.arg: one.value for one in call.keywords if one.arg}
            return {name: _rule(name, node) for name, node in keywords.items()}
    return {}


def _page_calls(source: str) -> Iterable[ast.Call]:
    if "Page(" not in source:
        return
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic command
        return
    for statement in body:
        match statement:
            case ast.Assign(value=ast.Call(func=ast.Name(id="Page")) as call):
                yield call


def _rule(name: str, node: ast.expr) -> Rule:
    try:
        return _built(node)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"Page(..., {name}={shortened(ast.unparse(node), LONGEST_VALUE)}): write one of "
            f"{', '.join(RULES)} with literal arguments, such as Whole(1, 100)"
        ) from error


def _built(node: ast.expr) -> Whole | Number | OneOf | ListOf:
    match node:
        case ast.Call(func=ast.Name(id=kind)) if kind in RULES:
            arguments = [_argument(one) for one in node.args]
            named = {str(one.arg): _argument(one.value) for one in node.keywords}
            return RULES[kind](*arguments, **named)  # pyright: ignore[reportArgumentType]
    raise ValueError


def _argument(node: ast.expr) -> object:
    return _built(node) if isinstance(node, ast.Call) else ast.literal_eval(node)


def _lies_between(rule: Whole | Number, value: object, others: Mapping[str, object]) -> bool:
    assert isinstance(value, int | float)
    least, most = _resolved(rule.least, others), _resolved(rule.most, others)
    # A whole number is only compared: one of hundreds of digits becomes no float.
    finite = isinstance(value, int) or math.isfinite(value)
    return finite and (least is None or value >= least) and (most is None or value <= most)


def _between(rule: Whole | Number, others: Mapping[str, object]) -> str:
    return f"between {_named(rule.least, others)} and {_named(rule.most, others)}"


def _named(bound: Bound, others: Mapping[str, object]) -> str:
    number = _resolved(bound, others)
    if isinstance(bound, str):
        return bound if number is None else f"{shown(number)} ({bound})"
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _resolved(bound: Bound, others: Mapping[str, object]) -> int | float | None:
    """The bound as a number; None where the parameter that it names is none itself."""
    if not isinstance(bound, str):
        return bound
    factor, _, name = bound.rpartition(" * ")
    number = others.get(name)
    if not isinstance(number, int | float):
        return None
    return int(factor or 1) * number
