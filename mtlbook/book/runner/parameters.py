"""Parameters from the command line, checked against the notebooks before anything runs."""

import ast
from collections.abc import Mapping, Sequence

from mtlbook.book.runner.book import Chapter
from mtlbook.errors import UsageError

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


LEAST = {"seeds": 1, "first_seed": 0}
"""The smallest possible values of the parameters that every chapter has."""


def changed(chapters: Sequence[Chapter], texts: Mapping[str, str]) -> list[dict[str, object]]:
    """Per chapter the parameters that differ from its committed ones.

    Arguments:
        chapters: the selected chapters: each must have every parameter.
        texts: the values as typed on the command line, by name.

    Raises:
        UsageError: a name that a chapter does not have, or a value that is not of its type.
    """
    for name in texts:
        without = [chapter for chapter in chapters if name not in chapter.parameters]
        if without:
            raise UsageError(
                f"section {without[0].section} has no parameter {name!r}; it has "
                f"{', '.join(without[0].parameters) or 'none'} "
                "(mtlbook list shows all; select sections that have it)"
            )
    values = [{name: _value(name, texts[name], one) for name in texts} for one in chapters]
    return [
        {name: value for name, value in mine.items() if value != chapter.parameters[name]}
        for chapter, mine in zip(chapters, values, strict=True)
    ]


def _value(name: str, text: str, chapter: Chapter) -> object:
    default = chapter.parameters[name]
    try:
        value = parse(text, default)
    except ValueError as error:
        raise UsageError(
            f"parameter {name} must be {error}, not {text!r} "
            f"(section {chapter.section} has {name} = {default!r})"
        ) from error
    if isinstance(value, int) and value < LEAST.get(name, value):
        raise UsageError(f"parameter {name} must be at least {LEAST[name]}, not {value}")
    return value


def parse(text: str, default: object) -> object:
    """A typed text as a value of the default's type.

    Raises:
        ValueError: saying which type is expected.
    """
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.strip().lower(), text)
    return value if default is None else _as(value, default)


def _as(value: object, default: object) -> object:
    if isinstance(default, list):
        if not isinstance(value, list | tuple):
            raise ValueError("a list such as 1,2,3")
        return [_as(item, default[0]) for item in value] if default else list(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise ValueError(KINDS.get(type(default), f"a {type(default).__name__}"))
    return value


def check_device(device: object, *, here: bool) -> None:
    """Refuse a device that does not exist.

    Arguments:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        here: whether the chapters run on this machine; a cluster's GPUs cannot be seen from here.
    """
    name = str(device)
    if name in ("auto", "cpu") or (name.startswith("cuda") and not here):
        return
    from mtlbook.devices import resolve  # PyTorch takes seconds to import

    resolve(name)
