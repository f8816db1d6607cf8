import pytest

from mtlbook.book import exercises
from mtlbook.book.exercises import Exercise, WrongAnswer, exercise
from mtlbook.errors import UsageError


def joint_loss(first: float, second: float) -> float:
    """The sum of two losses."""
    return first + second


@pytest.fixture(autouse=True)
def _a_section_of_exercises(monkeypatch):
    monkeypatch.setattr(exercises, "_EXERCISES", {})

    @exercise("9.9.b", "How many tasks?", reference=2)
    def check_count(answer):
        if answer != 2:
            raise WrongAnswer("count them again")

    @exercise("9.9.a", "Write the joint loss of two tasks.", reference=joint_loss)
    def check_joint_loss(answer):
        if answer(1.0, 2.0) != 3.0:
            raise WrongAnswer("both losses belong into the sum")


def test_a_correct_answer_is_told_so(capsys):
    exercises.check("9.9.a", lambda first, second: second + first)
    assert capsys.readouterr().out == "Exercise 9.9.a: correct.\n"


def test_a_wrong_answer_gets_its_hint(capsys):
    exercises.check("9.9.a", max)
    assert capsys.readouterr().out == "Exercise 9.9.a: not yet: both losses belong into the sum\n"


def test_an_answer_that_raises_gets_its_error_as_a_hint(capsys):
    exercises.check("9.9.a", lambda first: first)
    assert "your answer raised TypeError: " in capsys.readouterr().out


def test_an_open_answer_is_not_called_wrong(capsys):
    def stub(first, second): ...

    def documented_stub(first, second):
        """The joint loss of two tasks."""

    def returning_stub(first, second):
        return ...

    for answer in (..., stub, documented_stub, returning_stub):
        exercises.check("9.9.a", answer)
        assert capsys.readouterr().out == "Exercise 9.9.a: not answered yet.\n"


def test_an_answer_that_does_little_is_checked_all_the_same(capsys):
    for answer in (lambda first, second: 3.0, lambda first, second: first, 0, None):
        exercises.check("9.9.a", answer)
        assert "not answered" not in capsys.readouterr().out


def test_the_solution_is_the_references_source(capsys):
    exercises.solution("9.9.a")
    shown = capsys.readouterr().out
    assert shown.startswith("def joint_loss(first: float, second: float) -> float:\n")
    assert "return first + second" in shown
    exercises.solution("9.9.b")
    assert capsys.readouterr().out == "2\n"


def test_a_section_lists_its_exercises_in_order_and_every_reference_passes():
    section = exercises.of("9.9")
    assert [one.id for one in section] == ["9.9.a", "9.9.b"]
    assert all(isinstance(one, Exercise) and one.hint(one.reference) is None for one in section)
    assert exercises.of("9") == ()


@pytest.mark.parametrize("unknown", ["9.9.c", "9.9", "nonsense"])
def test_an_unknown_exercise_lists_those_of_the_section(unknown):
    with pytest.raises(UsageError, match=rf"unknown exercise '{unknown}'"):
        exercises.check(unknown, ...)
    with pytest.raises(UsageError, match=r"section 9\.9 has: 9\.9\.a, 9\.9\.b"):
        exercises.solution("9.9.z")


def test_two_modules_cannot_define_the_same_exercise():
    def check_elsewhere(answer): ...

    check_elsewhere.__module__ = "another.module"
    with pytest.raises(UsageError, match="defined twice"):
        exercise("9.9.a", "Again?", reference=None)(check_elsewhere)
