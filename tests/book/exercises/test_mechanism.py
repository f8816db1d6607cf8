import pytest

from mtlbook.book import exercises
from mtlbook.book.exercises import DIRECTIONS, Exercise, WrongAnswer, exercise, prediction
from mtlbook.errors import UsageError


def joint_loss(first: float, second: float) -> float:
    """The sum of two losses."""
    return first + second


@pytest.fixture(autouse=True)
def _a_section_of_exercises(monkeypatch):
    monkeypatch.setattr(exercises, "_EXERCISES", {})
    monkeypatch.setattr(exercises, "_SOLVED", set())
    monkeypatch.setattr(exercises, "_HINTS_GIVEN", {})

    @exercise(
        "9.9.b", "How many tasks?", reference=2, hints=("Look at the heads.", "Fewer than 3.")
    )
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


@pytest.fixture
def _predictions(_a_section_of_exercises):
    prediction(
        "9.9.c",
        "More tasks: where does the error go?",
        choices=DIRECTIONS,
        answer="falls",
        because="More rows for the trunk.",
        hints=("Count the rows.",),
    )
    prediction("9.9.d", "By how much?", answer=40.0, within=10.0, because="It halves nearly.")


def told(capsys, name, answer):
    exercises.check(name, answer)
    return capsys.readouterr().out


@pytest.mark.usefixtures("_predictions")
def test_a_prediction_meets_what_the_experiment_found_and_why(capsys):
    right = "Exercise 9.9.c: you predicted what the book's experiment found. More rows for the "
    assert told(capsys, "9.9.c", "falls").startswith(right)
    wrong = 'Exercise 9.9.c: the book\'s experiment says "falls". More rows for the trunk.\n'
    assert told(capsys, "9.9.c", "rises") == wrong
    assert "you predicted" in told(capsys, "9.9.d", 31)
    assert "says 40. It halves nearly." in told(capsys, "9.9.d", 20)
    exercises.solution("9.9.c")
    assert capsys.readouterr().out == "'falls'. More rows for the trunk.\n"


@pytest.mark.usefixtures("_predictions")
def test_what_is_no_prediction_reveals_nothing(capsys):
    wanted = 'with one of "falls", "stays", "rises"'
    assert told(capsys, "9.9.c", ...) == f"Exercise 9.9.c: not answered yet. Answer {wanted}.\n"
    assert told(capsys, "9.9.c", "down") == f"Exercise 9.9.c: not yet: answer {wanted}\n"
    assert told(capsys, "9.9.d", "much") == "Exercise 9.9.d: not yet: answer with a number\n"
    exercises.summary("9.9")
    assert capsys.readouterr().out == "0 of 4 solved; open: 9.9.a, 9.9.b, 9.9.c, 9.9.d\n"


def test_what_is_looked_up_is_explained_by_what_it_is(capsys):
    found = "stays"
    reasons = {"falls": "Help.", "stays": "Nothing in common.", "rises": "Harm."}
    prediction("9.9.c", "?", choices=DIRECTIONS, answer=lambda: found, because=reasons)
    assert told(capsys, "9.9.c", "falls").endswith('says "stays". Nothing in common.\n')
    found = "rises"
    assert told(capsys, "9.9.c", "rises").endswith("found. Harm.\n")


def test_a_prediction_that_cannot_be_right_is_refused():
    with pytest.raises(UsageError, match="'sinks' is not one of \"falls\""):
        prediction("9.9.c", "?", choices=DIRECTIONS, answer="sinks", because="")
    with pytest.raises(UsageError, match="a text for each choice"):
        prediction("9.9.c", "?", choices=DIRECTIONS, answer="falls", because={"falls": ""})


def test_hints_come_by_degrees(capsys):
    for _ in range(3):
        exercises.hint("9.9.b")
    assert capsys.readouterr().out == (
        "Exercise 9.9.b, hint 1 of 2: Look at the heads.\n"
        "Exercise 9.9.b, hint 2 of 2: Fewer than 3.\n"
        'Exercise 9.9.b: no more hints; exercises.solution("9.9.b") shows the answer.\n'
    )
    exercises.hint("9.9.a")
    assert "no hints" in capsys.readouterr().out


@pytest.mark.usefixtures("_predictions")
def test_a_summary_says_what_is_solved_and_what_is_open(capsys):
    exercises.check("9.9.a", lambda first, second: first + second)
    exercises.check("9.9.b", 3)
    exercises.check("9.9.c", "rises")  # a prediction counts, right or wrong
    capsys.readouterr()
    exercises.summary("9.9")
    assert capsys.readouterr().out == "2 of 4 solved; open: 9.9.b, 9.9.d\n"
    exercises.check("9.9.b", 2)
    exercises.check("9.9.d", 40)
    capsys.readouterr()
    exercises.summary("9.9")
    assert capsys.readouterr().out == "4 of 4 solved\n"
    with pytest.raises(UsageError, match=r"section 9\.8 has no exercises"):
        exercises.summary("9.8")
