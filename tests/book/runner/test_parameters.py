from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbook.book.runner.book import Chapter
from mtlbook.book.runner.parameters import changed, check_device, parse
from mtlbook.errors import UsageError

VALUES = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.lists(st.integers(), min_size=1),
    st.lists(st.text(), min_size=1),
)


@given(VALUES)
def test_a_value_written_as_python_comes_back(value: object) -> None:
    written = value if isinstance(value, str) else repr(value)
    assert parse(written, value) == value


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("true", False, True),
        ("False", True, False),
        ("4", 0.5, 4.0),
        ("1e-3", 0.5, 1e-3),
        ("-4", 1, -4),
        ("1,2,3", [9], [1, 2, 3]),
        ("[1, 2]", [0.5], [1.0, 2.0]),
        ("[]", [9], []),
        ("16", "l2", "16"),
        ("none", None, None),
        ("adam", None, "adam"),
        ("3", None, 3),
    ],
)
def test_a_value_takes_the_type_of_the_default(text: str, default: object, value: object) -> None:
    parsed = parse(text, default)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("4.5", 1, "a whole number"),
        ("true", 1, "a whole number"),
        ("four", 1, "a whole number"),
        ("four", 1.0, "a number"),
        ("1", True, "true or false"),
        ("4", [1], "a list"),
        ("1,a", [1], "a list"),
        ("[1, 'a']", [1], "a whole number"),
        ("__import__('os')", 1, "a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused(text: str, default: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse(text, default)


def _chapter(**parameters: object) -> Chapter:
    return Chapter("3.1", "Title", Path("3_1_title.ipynb"), "", parameters)


def test_only_what_differs_from_the_committed_value_is_a_change() -> None:
    chapters = [_chapter(seeds=16, rate=0.5), _chapter(seeds=4, rate=1.0)]
    assert changed(chapters, {"seeds": "16", "rate": "1"}) == [{"rate": 1.0}, {"seeds": 16}]
    assert changed(chapters, {}) == [{}, {}]


@pytest.mark.parametrize(("name", "text"), [("seeds", "0"), ("first_seed", "-1")])
def test_impossible_values_are_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be at least"):
        changed([_chapter(seeds=4, first_seed=0)], {name: text})


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("auto", "cpu", "cuda", "cuda:0"):
        check_device(device, here=True)
    check_device("cuda:7", here=False)  # a cluster's GPUs cannot be counted from here
    with pytest.raises(UsageError, match=r"no 'cuda:1'"):
        check_device("cuda:1", here=True)
    for device in ("gpu", "cpu:0", "", 3):
        with pytest.raises(UsageError, match="There is no device"):
            check_device(device, here=False)
