"""What holds for the exercises of every section; likely wrong answers have a file a section."""

from pkgutil import iter_modules

import pytest

from mtlbook.book import exercises
from mtlbook.book.exercises import Prediction

SECTIONS = sorted(
    module.name.removeprefix("section_").replace("_", ".")
    for module in iter_modules(exercises.__path__)
)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_has_two_to_five_exercises(section):
    found = [one.id for one in exercises.of(section)]
    assert 2 <= len(found) <= 5
    assert found == [f"{section}.{letter}" for letter in "abcde"[: len(found)]]


@pytest.mark.parametrize(
    "exercise",
    [one for section in SECTIONS for one in exercises.of(section)],
    ids=lambda one: one.id,
)
def test_the_reference_answer_is_accepted(exercise):
    answer = exercise.found if isinstance(exercise, Prediction) else exercise.reference
    assert exercise.hint(answer) is None
