"""Exercises that the reader can check in the notebook, with tested reference answers.

The exercises of a section live in `mtlbook/book/exercises/section_<section>.py`. A page gives each
exercise one cell, tagged `exercise`, that runs from a fresh kernel: it imports what it needs and
uses no variable of the page::

    from mtlbook.book import exercises

    def joint_loss(first, second): ...

    exercises.check("3.1.a", joint_loss)   # "correct", or what is wrong with it
    exercises.hint("3.1.a")                # the first hint; called again, the next one
    exercises.solution("3.1.a")            # the reference answer's source
    exercises.summary("3.1")               # "2 of 3 solved; open: 3.1.b"

There are two kinds. Something to *write*, whose check looks for likely mistakes::

    @exercise(
        "3.1.a", "Write the joint loss of two tasks.", reference=joint_loss, hints=("Add.",)
    )
    def _check_joint_loss(answer):
        if answer(1.0, 2.0) != 3.0:
            raise WrongAnswer("both losses belong into the sum")

And something to *predict* before the dial is turned: a choice (`DIRECTIONS` are falls, stays,
rises) or a number. The reader's cell is `exercises.check("3.1.c", ...)` with "falls" for `...`;
the answer says whether the book's experiment agrees, and why::

    prediction(
        "3.1.c",
        "Double the number of tasks. What happens to the excess error of hard sharing?",
        choices=DIRECTIONS,
        answer="falls",
        because="The shared layer is estimated from twice as many rows.",
        hints=("From how many rows is the shared layer estimated?",),
    )
    prediction(
        "3.1.d",
        "By how many percent?",
        answer=40.0,
        within=10.0,                       # 30 to 50 counts as right
        because="...",
    )

Where the result may change with the replication, `answer` is a function without arguments that
reads it from where it is recorded, and `because` a dictionary with a text for each choice.
"""

import dis
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pkgutil import iter_modules
from types import EllipsisType, FunctionType
from typing import Any

from mtlbook.errors import UsageError


class WrongAnswer(UsageError):  # noqa: N818
    """An answer that doesn't pass; the message is the hint that the reader sees."""


DIRECTIONS = ("falls", "stays", "rises")
"""The choices of a prediction of where something goes."""


@dataclass(frozen=True)
class Exercise:
    """A question, the check of an answer (raises :class:`WrongAnswer`), and a reference answer.

    The reference is a function or class whose source the reader may look up, or a plain value.
    The hints lead to the answer by degrees.
    """

    id: str
    question: str
    check: Callable[[Any], None]
    reference: Any
    hints: tuple[str, ...] = ()
    module: str = ""

    def hint(self, answer: Any) -> str | None:
        """What is wrong with an answer, or None where it is correct."""
        try:
            self.check(answer)
        except WrongAnswer as wrong:
            return str(wrong)
        except Exception as error:  # the reader's own code may raise anything
            return f"your answer raised {type(error).__name__}: {error}"
        return None


@dataclass(frozen=True)
class Prediction(Exercise):
    """A choice or number that the reader predicts before the dial is turned.

    The reference is what the book's experiment found, or a function that looks it up.
    """

    choices: tuple[str, ...] = ()
    within: float = 0.0
    because: str | Mapping[str, str] = ""

    @property
    def found(self) -> str | float:
        """What the book's experiment found."""
        found: Any = self.reference() if callable(self.reference) else self.reference
        return found

    @property
    def explanation(self) -> str:
        """Why the book's experiment found it."""
        return self.because if isinstance(self.because, str) else self.because[str(self.found)]

    @property
    def wanted(self) -> str:
        """What an answer must look like."""
        if not self.choices:
            return "a number"
        return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)

    def is_possible(self, answer: Any) -> bool:
        """Whether an answer is a prediction at all."""
        if self.choices:
            return isinstance(answer, str) and answer in self.choices
        return isinstance(answer, Real) and not isinstance(answer, bool)

    def judge(self, answer: Any) -> None:
        """The check of a prediction."""
        if not self.is_possible(answer):
            raise WrongAnswer(f"answer with {self.wanted}")
        found = self.found
        if isinstance(found, str):
            agrees, said = answer == found, f'"{found}"'
        else:
            agrees, said = abs(answer - found) <= self.within, f"{found:g}"
        if not agrees:
            raise WrongAnswer(f"the book's experiment says {said}")


_EXERCISES: dict[str, Exercise] = {}
_SOLVED: set[str] = set()
_HINTS_GIVEN: dict[str, int] = {}


def exercise(
    id: str,  # noqa: A002
    question: str,
    *,
    reference: Any,
    hints: Sequence[str] = (),
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register the decorated check as the exercise `id`, the section and a letter: "3.1.a"."""

    def register(check: Callable[[Any], None]) -> Callable[[Any], None]:
        _register(Exercise(id, question, check, reference, tuple(hints), check.__module__))
        return check

    return register


def prediction(
    id: str,  # noqa: A002
    question: str,
    *,
    answer: str | float | Callable[[], str | float],
    because: str | Mapping[str, str],
    choices: Sequence[str] = (),
    within: float = 0.0,
    hints: Sequence[str] = (),
) -> None:
    """Register a prediction as the exercise `id`.

    Arguments:
        id: the section and a letter: "3.1.c".
        question: what the reader predicts.
        answer: what the book's experiment found: one of the choices, or a number; or a function
            without arguments that looks it up.
        because: why, in a sentence or two; where the answer is looked up, a text for each choice.
        choices: what the reader may answer; without any the answer is a number.
        within: how far from the number a prediction may lie and still count as right.
        hints: from faint to strong.
    """

    def check(given: Any) -> None:
        made.judge(given)

    module = sys._getframe(1).f_globals["__name__"]
    made = Prediction(
        id, question, check, answer, tuple(hints), module, tuple(choices), within, because
    )
    if isinstance(answer, str) and answer not in choices:
        raise UsageError(f"exercise {id!r}: the answer {answer!r} is not {made.wanted}")
    if isinstance(because, Mapping) and set(because) != set(choices):
        raise UsageError(f"exercise {id!r}: because must hold a text for each choice, no other")
    _register(made)


def _register(made: Exercise) -> None:
    known = _EXERCISES.get(made.id)
    # A module that is reloaded defines its exercises again.
    if known is not None and known.module != made.module:
        raise UsageError(f"exercise {made.id!r} is defined twice: give one of them another letter")
    _EXERCISES[made.id] = made


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

    `...` (or a function whose body is still `...`) counts as not answered yet. A prediction is
    answered by what the book's experiment found, and why.
    """
    found = get(id)
    if _unanswered(answer):
        wanted = f" Answer with {found.wanted}." if isinstance(found, Prediction) else ""
        _say(f"Exercise {id}: not answered yet.{wanted}")
        return
    hint = found.hint(answer)
    if isinstance(found, Prediction) and found.is_possible(answer):
        _SOLVED.add(id)  # the experiment has answered: a wrong prediction teaches as much
        verdict = "you predicted what the book's experiment found" if hint is None else hint
        _say(f"Exercise {id}: {verdict}. {found.explanation}")
        return
    if hint is None:
        _SOLVED.add(id)
    _say(f"Exercise {id}: correct." if hint is None else f"Exercise {id}: not yet: {hint}")


def hint(id: str) -> None:  # noqa: A002
    """Print a hint; called again, the next and stronger one."""
    hints = get(id).hints
    given = _HINTS_GIVEN.get(id, 0)
    if given < len(hints):
        _HINTS_GIVEN[id] = given + 1
        _say(f"Exercise {id}, hint {given + 1} of {len(hints)}: {hints[given]}")
    else:
        more = "no more hints" if hints else "no hints"
        _say(f'Exercise {id}: {more}; exercises.solution("{id}") shows the answer.')


def solution(id: str) -> None:  # noqa: A002
    """Print the reference answer: its source, or its value; of a prediction also the reason."""
    found = get(id)
    reference = found.reference
    if isinstance(found, Prediction):
        _say(f"{found.found!r}. {found.explanation}")
    elif inspect.isroutine(reference) or inspect.isclass(reference):
        _say(textwrap.dedent(inspect.getsource(reference)).rstrip())
    else:
        _say(repr(reference))


def summary(section: str) -> None:
    """Print how many of a section's exercises are solved in this kernel, and which are open.

    A prediction counts once it was made, right or wrong.
    """
    ids = [one.id for one in of(section)]
    if not ids:
        raise UsageError(f"section {section} has no exercises")
    still_open = [id for id in ids if id not in _SOLVED]  # noqa: A001
    rest = f"; open: {', '.join(still_open)}" if still_open else ""
    _say(f"{len(ids) - len(still_open)} of {len(ids)} solved{rest}")


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
