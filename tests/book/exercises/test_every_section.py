"""What holds for the exercises of every section; likely wrong answers have a file a section."""

from pkgutil import iter_modules

import pytest

from mtlbook.book import exercises

SECTIONS = sorted(
    module.name.removeprefix("section_").replace("_", ".")
    for module in iter_modules(exercises.__path__)
)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_has_two_or_three_exercises(section):
    found = [one.id for one in exercises.of(section)]
    assert found in [[f"{section}.{letter}" for letter in letters] for letters in ("ab", "abc")]


@pytest.mark.parametrize(
    "exercise",
    [one for section in SECTIONS for one in exercises.of(section)],
    ids=lambda one: one.id,
)
def test_the_reference_answer_is_accepted(exercise):
    assert exercise.hint(exercise.reference) is None
