import ast
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from mtlbook.book.parameters import COMMON, ListOf, Number, OneOf, Rule, Whole, check
from mtlbook.book.runner.book import Chapter, open_book
from mtlbook.book.runner.parameters import changed, check_device, parse
from mtlbook.errors import UsageError
from tests.project import ROOT

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


RULES: dict[str, Rule] = {
    "rate": Number(0, 1),
    "widths": ListOf(Whole(1, "most")),
    "most": Whole(1, 64),
    "kind": OneOf("l1", "l2"),
}
DEFAULTS = {"seeds": 4, "first_seed": 0, "device": "cpu"} | {
    "rate": 0.5, "widths": [8], "most": 9, "kind": "l2",
}  # fmt: skip
RULED = Chapter("3.1", "Title", Path("3_1_title.ipynb"), "", DEFAULTS, RULES)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"seeds": "1"}, "seeds = 1: must be a whole number between 2 and 1000"),
        ({"seeds": "many"}, "seeds = 'many': must be a whole number between 2 and 1000"),
        ({"first_seed": str(2**63)}, "first_seed = .* between 0 and 2147483647"),
        ({"device": "gpu"}, "device = 'gpu': must be auto, cpu, cuda or cuda:N"),
        ({"rate": "2"}, "rate = 2: must be a number between 0 and 1"),
        ({"rate": "nan"}, "rate = 'nan': must be a number"),
        ({"kind": "l3"}, "kind = 'l3': must be one of l1, l2"),
        ({"widths": "[]"}, r"widths = \[\]: must be a list of 1 to 32"),
        ({"widths": "8, 10"}, r"widths = \(8, 10\): .* between 1 and 9 \(most\)"),
        ({"most": "7"}, r"widths = \[8\]: .* between 1 and 7"),  # the default no longer fits
    ],
)
def test_what_a_rule_excludes_is_refused_in_its_words(texts: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed([RULED], texts)


def test_what_a_rule_admits_takes_the_parameters_type() -> None:
    typed = {"rate": "1", "widths": "1, 16", "most": "16", "kind": "l1", "seeds": "4"}
    (found,) = changed([RULED], typed)
    assert found == {"rate": 1.0, "widths": [1, 16], "most": 16, "kind": "l1"}
    assert type(found["rate"]) is float


PAGES = open_book(ROOT / "notebooks").chapters


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.section)
def test_every_parameter_of_the_book_has_a_rule_that_its_default_keeps(page: Chapter) -> None:
    rules = page.rules if page.reads_ledger else COMMON | page.rules
    assert set(rules) == set(page.parameters)
    assert check(rules, page.parameters) == page.parameters


TYPED = st.one_of(
    st.text(),
    st.text("0123456789-+.eExX_[](){},:'\"jnaift \\\n\t\0"),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers() | st.floats(0, 1)).map(str),
    st.sampled_from(["-", "[", "(", "{", "9", "0x", "1e", "not ", "[[],", "'", "\\"]).flatmap(
        lambda part: st.integers(1, 200_000).map(lambda times: part * times)
    ),
    st.sampled_from(
        [
            "-" * 100_000 + "1",
            "[" * 5_000 + "]" * 5_000,
            "123456789012345678901234567890" * 1_000,
            "0x" + "f" * 990,
            "1_000",
            "1if 1else 2",
            "'\\d'",
            "\udcff",
            "__import__('os')._exit(3)",
            "16\nimport os; os._exit(3)",
            "cpu'; import os; os._exit(3); '",
            '"""',
        ]
    ),
)


def attempt(page: Chapter, texts: dict[str, str]) -> tuple[dict[str, object], str]:
    """What is accepted, and the refusal; any other exception, or a warning, is a fault."""
    try:
        return changed([page], texts)[0], ""
    except UsageError as error:
        return {}, str(error)


@given(st.data())
def test_whatever_is_typed_is_accepted_or_refused_in_one_short_line(data: st.DataObject) -> None:
    page = data.draw(st.sampled_from([RULED, *PAGES]))
    name = data.draw(st.sampled_from([*page.parameters, "sedes", "x" * 5_000]))
    text = data.draw(TYPED)
    accepted, refusal = attempt(page, {name: text})
    assert len(refusal) <= 300
    assert "\n" not in refusal
    if refusal:
        return
    # What the kernel is given to execute is a literal, of the very values that were accepted.
    code = ast.parse(PythonTranslator.codify(accepted))
    given = {
        ast.unparse(one.targets[0]): ast.literal_eval(one.value)
        for one in code.body
        if isinstance(one, ast.Assign)
    }
    assert len(given) == len(code.body)
    assert given == accepted
    assert check(COMMON | page.rules, page.parameters | given) == page.parameters | accepted


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("auto", "cpu", "cuda", "cuda:0"):
        check_device(device, here=True)
    check_device("cuda:7", here=False)  # a cluster's GPUs cannot be counted from here
    with pytest.raises(UsageError, match=r"no 'cuda:1'"):
        check_device("cuda:1", here=True)
