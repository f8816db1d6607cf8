"""The comparison of notebook outputs: text exactly, numbers within the stated tolerance."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.notebook_comparison import (
    ABSOLUTE_TOLERANCE,
    RELATIVE_TOLERANCE,
    differences,
    text_difference,
)

magnitudes = st.floats(1e-3, 1e12)
signs = st.sampled_from([-1.0, 1.0])
texts = st.text(st.characters(exclude_categories=["Cs"]))


def html(value: str) -> list[dict[str, Any]]:
    return [{"output_type": "execute_result", "data": {"text/html": f"<td>{value}</td>"}}]


def stream(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


@given(texts)
def test_a_text_equals_itself(text: str) -> None:
    assert text_difference(text, text) is None


@given(texts, texts)
def test_the_order_of_two_texts_does_not_matter(one: str, other: str) -> None:
    assert (text_difference(one, other) is None) == (text_difference(other, one) is None)


@given(st.text("ab \n"), st.text("ab \n"))
def test_text_without_numbers_must_be_equal_but_for_runs_of_blanks(one: str, other: str) -> None:
    words = [[line.split(" ") for line in text.split("\n")] for text in (one, other)]
    letters = [[[word for word in line if word] for line in text] for text in words]
    if letters[0] != letters[1]:
        assert text_difference(one, other) is not None
    assert text_difference(one, one.replace(" ", "   ")) is None


@given(signs, magnitudes, st.floats(-0.9, 0.9))
def test_numbers_within_the_tolerance_are_equal(sign: float, size: float, part: float) -> None:
    number = sign * size
    near = number * (1 + part * RELATIVE_TOLERANCE)
    assert text_difference(f"loss {number!r}.", f"loss {near!r}.") is None


@given(signs, magnitudes, st.floats(1.1, 1e3), st.sampled_from(["{!r}", "{:.15e}", "+{!r}"]))
def test_numbers_beyond_the_tolerance_differ(
    sign: float, size: float, part: float, style: str
) -> None:
    far = size * (1 + sign * part * RELATIVE_TOLERANCE)
    assume(abs(far - size) > 1.1 * ABSOLUTE_TOLERANCE)
    assert text_difference(style.format(size), style.format(far)) is not None


@given(st.integers(), st.integers(1, 9))
def test_whole_numbers_are_exact(number: int, more: int) -> None:
    assert text_difference(f"{10**9 + abs(number)}", f"{10**9 + abs(number) + more}") is not None


@pytest.mark.parametrize(
    ("reference", "actual"),
    [
        ("a   0.0\nb  10.0", "a  0.0\nb 10.0"),  # padding moves with the width of a number
        ("[ 0.  1.]", "[-0.  1.]"),
        ("1e-05", "0.00001"),
        ("−0.5", "-0.5"),
        ("p=0.031,", "p=0.0310,"),
    ],
)
def test_the_spelling_of_a_number_does_not_matter(reference: str, actual: str) -> None:
    assert text_difference(reference, actual) is None


@pytest.mark.parametrize(
    ("reference", "actual"),
    [
        ("0.5", "-0.5"),
        ("0.5", "nan"),
        ("nan", "inf"),
        ("0.5", ""),
        ("0.5 0.5", "0.5"),
        ("version 1.2.3", "version 1.2.4"),
        ("x0.5", "x0.6"),
        ("16 seeds", "17 seeds"),
        ("supported", "undecided"),
        ("one\ntwo", "one two"),
    ],
)
def test_what_differs(reference: str, actual: str) -> None:
    assert text_difference(reference, actual) is not None


def test_the_message_names_the_line_and_both_numbers() -> None:
    message = text_difference("first 1.0\nsecond 2.0", "first 1.0\nsecond 2.5")
    assert message == "line 2: '2.0' became '2.5'"


def test_html_is_compared_by_its_numbers() -> None:
    assert differences(html("0.1234567"), html("0.12345671")) == []
    assert differences(html("0.1234567"), html("0.1234667")) != []


def test_a_new_or_missing_output_is_a_difference_that_is_shown() -> None:
    warning = stream("stderr", "UserWarning: converged slowly")
    found = differences([], [warning])
    assert any("converged slowly" in line for line in found)
    assert differences([warning], []) != []
    assert differences([stream("stdout", "1")], [stream("stderr", "1")]) != []


def test_an_image_must_be_there_but_is_not_compared() -> None:
    first, second = (
        {"output_type": "display_data", "data": {"image/png": data, "text/plain": "a curve"}}
        for data in ("AAAA", "BBBB")
    )
    assert differences([first], [second]) == []
    assert differences([first], []) != []
    relabelled = {**second, "data": {**second["data"], "text/plain": "two curves"}}
    assert differences([first], [relabelled]) != []


def test_json_is_compared_by_its_numbers() -> None:
    first, near, far = (
        [{"output_type": "display_data", "data": {"application/json": {"b": number, "a": [1]}}}]
        for number in (0.5, 0.5000000001, 0.51)
    )
    assert differences(first, near) == []
    assert differences(first, far) != []
