"""Parameters from the command line, checked against the notebooks before anything runs."""

import ast
import warnings
from collections.abc import Mapping, Sequence

from mtlbook.book.parameters import COMMON, Device, OneOf, Rule, check, shown
from mtlbook.book.runner.book import Chapter
from mtlbook.errors import UsageError

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}

LONGEST_TEXT = 1_000
"""Characters of a typed value: a longer one is no parameter, and may exhaust Python's parser."""


def changed(chapters: Sequence[Chapter], texts: Mapping[str, str]) -> list[dict[str, object]]:
    """Per chapter the parameters that differ from its committed ones.

    Arguments:
        chapters: the selected chapters: each must have every parameter. Pages made from the
            ledger beside others need not: a parameter that they lack is not theirs.
        texts: the values as typed on the command line, by name.

    Raises:
        UsageError: a name that a chapter does not have, or a value that its rule excludes; of a
            parameter without a rule, a value of another type.
    """
    asked = [chapter for chapter in chapters if not chapter.reads_ledger] or chapters
    for name in texts:
        without = [chapter for chapter in asked if name not in chapter.parameters]
        if without:
            raise UsageError(
                f"section {without[0].section} has no parameter {shown(name)}; it has "
                f"{', '.join(without[0].parameters) or 'none'} "
                "(mtlbook list shows all; select sections that have it)"
            )
    return [_changed(chapter, texts) for chapter in chapters] if texts else [{} for _ in chapters]


def _changed(chapter: Chapter, texts: Mapping[str, str]) -> dict[str, object]:
    rules = COMMON | chapter.rules
    typed = {
        name: value_of(text, rules[name]) if name in rules else _typed(name, text, chapter)
        for name, text in texts.items()
        if name in chapter.parameters
    }
    values = chapter.parameters | typed
    # All of them, since a rule may name another parameter: the page does the same.
    values |= check({name: rules[name] for name in values if name in rules}, values)
    return {name: values[name] for name in typed if values[name] != chapter.parameters[name]}


def value_of(text: str, rule: Rule) -> object:
    """What a typed text stands for, whether the rule accepts it or not."""
    return text if isinstance(rule, OneOf | Device) else literal(text)


def _typed(name: str, text: str, chapter: Chapter) -> object:
    default = chapter.parameters[name]
    try:
        return parse(text, default)
    except ValueError as error:
        raise UsageError(
            f"parameter {name} = {shown(text)}: must be {error} "
            f"(section {chapter.section} has {name} = {shown(default)})"
        ) from error


def parse(text: str, default: object) -> object:
    """A typed text as a value of the default's type.

    Raises:
        ValueError: saying which type is expected.
    """
    if isinstance(default, str):
        return text
    value = literal(text)
    return value if default is None else _as(value, default)


def literal(text: str) -> object:
    """The Python literal, or the text itself where it is none; nothing is executed."""
    if len(text) > LONGEST_TEXT:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of an escape such as "\\d"
            return ast.literal_eval(text.strip())
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return {"true": True, "false": False, "none": None}.get(text.strip().lower(), text)


def _as(value: object, default: object) -> object:
    if isinstance(default, list):
        if not isinstance(value, list | tuple):
            raise ValueError("a list such as 1,2,3")
        return [_as(item, default[0]) for item in value] if default else list(value)
    if isinstance(default, float) and type(value) is int and abs(value) < 2**63:
        return float(value)
    if type(value) is not type(default):
        raise ValueError(KINDS.get(type(default), f"a {type(default).__name__}"))
    return value


def check_device(device: object, *, here: bool) -> None:
    """Refuse a GPU that does not exist.

    Arguments:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        here: whether the chapters run on this machine; a cluster's GPUs cannot be seen from here.
    """
    if here and str(device).startswith("cuda"):
        from mtlbook.devices import resolve  # PyTorch takes seconds to import

        resolve(str(device))
