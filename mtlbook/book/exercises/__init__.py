"""Exercises that the reader can check in the notebook, with tested reference answers.

The exercises of a section live in `mtlbook/exercises/section_<section>.py`; a notebook asks::

    exercises.check("3.1.a", my_answer)    # "correct", or a hint
    exercises.solution("3.1.a")            # the reference answer's source

and a section defines::

    @exercise("3.1.a", "Write the joint loss of two tasks.", reference=joint_loss)
    def check_joint_loss(answer):
        if answer(1.0, 2.0) != 3.0:
            raise WrongAnswer("both losses belong into the sum")
"""

import dis
import importlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import iter_modules
from types import EllipsisType, FunctionType
from typing import Any

from mtlbook.errors import UsageError


class WrongAnswer(UsageError):  # noqa: N818
    """An answer that doesn't pass; the message is the hint that the reader sees."""


@dataclass(frozen=True)
class Exercise:
    """A question, the check of an answer (raises :class:`WrongAnswer`), and a reference answer.

    The reference is a function or class whose source the reader may look up, or a plain value.
    """

    id: str
    question: str
    check: Callable[[Any], None]
    reference: Any

    def hint(self, answer: Any) -> str | None:
        """What is wrong with an answer, or None where it is correct."""
        try:
            self.check(answer)
        except WrongAnswer as wrong:
            return str(wrong)
        except Exception as error:  # the reader's own code may raise anything
            return f"your answer raised {type(error).__name__}: {error}"
        return None


_EXERCISES: dict[str, Exercise] = {}


def exercise(
    id: str,  # noqa: A002
    question: str,
    *,
    reference: Any,
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register the decorated check as the exercise `id`, the section and a letter: "3.1.a"."""

    def register(check: Callable[[Any], None]) -> Callable[[Any], None]:
        known = _EXERCISES.get(id)
        # A module that is reloaded defines its exercises again.
        if known is not None and known.check.__module__ != check.__module__:
            raise UsageError(f"exercise {id!r} is defined twice: give one of them another letter")
        _EXERCISES[id] = Exercise(id, question, check, reference)
        return check

    return register


def of(section: str) -> tuple[Exercise, ...]:
    """The exercises of a section ("3.1"), in order; none where the section has no exercises."""
    name = f"section_{section.replace('.', '_')}"
    if any(module.name == name for module in iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{name}")
    return tuple(_EXERCISES[key] for key in sorted(_EXERCISES) if key.rpartition(".")[0] == section)


def get(id: str) -> Exercise:  # noqa: A002
    """The exercise called `id`, such as "3.1.a"."""
    section = id.rpartition(".")[0]
    exercises = {one.id: one for one in of(section)}
    if id not in exercises:
        known = ", ".join(exercises) or "none"
        raise UsageError(f"unknown exercise {id!r}; section {section or '?'} has: {known}")
    return exercises[id]


def check(id: str, answer: Any) -> None:  # noqa: A002
    """Say whether the reader's answer is correct, with a hint where it isn't.

    `...` (or a function whose body is still `...`) counts as not answered yet.
    """
    found = get(id)
    if _unanswered(answer):
        _say(f"Exercise {id}: not answered yet.")
        return
    hint = found.hint(answer)
    _say(f"Exercise {id}: correct." if hint is None else f"Exercise {id}: not yet: {hint}")


def solution(id: str) -> None:  # noqa: A002
    """Print the reference answer: its source, or its value."""
    reference = get(id).reference
    if inspect.isroutine(reference) or inspect.isclass(reference):
        _say(textwrap.dedent(inspect.getsource(reference)).rstrip())
    else:
        _say(repr(reference))


def _unanswered(answer: Any) -> bool:
    return isinstance(answer, EllipsisType) or (
        isinstance(answer, FunctionType) and _does_nothing(answer)
    )


def _does_nothing(function: FunctionType) -> bool:
    """Whether a function's body is only `...` (or `pass`, a docstring, `return ...`)."""
    instructions = list(dis.get_instructions(function))
    constants = [i.argval for i in instructions if i.opname in {"LOAD_CONST", "RETURN_CONST"}]
    others = {i.opname for i in instructions} - {"LOAD_CONST", "RETURN_CONST"}
    return others <= {"RESUME", "NOP", "RETURN_VALUE"} and constants in ([None], [...])


def _say(text: str) -> None:
    print(text)  # noqa: T201
