"""The rules of parameters: what they accept, in which words they refuse, and how they are read."""

import sys
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtlbook.book.parameters import (
    COMMON,
    LONGEST_MESSAGE,
    Device,
    ListOf,
    Number,
    OneOf,
    Rule,
    Whole,
    check,
    read,
    shortened,
)
from mtlbook.errors import UsageError

NO_NUMBERS = ["3", None, True, [], {}, 1j, float("nan"), float("inf"), -float("inf"), b"1"]
HUGE = 16**5_000  # of so many digits that Python refuses to write them


@pytest.mark.parametrize(
    ("rule", "value", "accepted"),
    [
        (Whole(1, 3), 1, 1),
        (Whole(1, 3), 3, 3),
        (Number(0, 1), 1, 1.0),
        (Number(-1.5, 1), -1.5, -1.5),
        (OneOf("l1", "l2"), "l2", "l2"),
        (Device(), "cuda:1", "cuda:1"),
        (ListOf(Number(0, 1)), [0, 0.5], [0.0, 0.5]),
        (ListOf(Whole(0, 1)), (1, 0), [1, 0]),
        (ListOf(Number(0, 1), 2), [1, 1], [1.0, 1.0]),
    ],
)
def test_a_possible_value_comes_back_in_the_parameters_type(
    rule: Rule, value: object, accepted: object
) -> None:
    (found,) = check({"x": rule}, {"x": value}).values()
    assert found == accepted
    assert type(found) is type(accepted)
    if isinstance(found, list) and isinstance(accepted, list):
        assert [type(one) for one in found] == [type(one) for one in accepted]


@pytest.mark.parametrize(
    ("rule", "values", "message"),
    [
        (Whole(1, 3), [0, 4, 2.0, HUGE, -HUGE, *NO_NUMBERS], "a whole number between 1 and 3"),
        (Number(0.5, 3), [0.49, 3.01, HUGE, *NO_NUMBERS], "a number between 0.5 and 3"),
        (Number(1e-6, 1e6), [0, 1e7], "a number between 1e-06 and 1e+06"),
        (OneOf("l1", "l2"), ["l3", "", 1, None, ["l1"]], "one of l1, l2"),
        (Device(), ["gpu", "cpu:0", "cuda:", "cuda:-1", "cpu\n", 3], "auto, cpu, cuda or cuda:N"),
        (
            ListOf(Whole(2, 5)),
            [[], 2, "2", [2, 2], [1], [2.0], [[2]], list(range(2, 40)), {2}],
            "a list of 1 to 32 different values, each a whole number between 2 and 5",
        ),
        (
            ListOf(Number(0, 1), 2),
            [[], [0.5], [0.1, 0.2, 0.3], [0.1, 2]],
            "a list of 2 values, each a number between 0 and 1",
        ),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_possible(
    rule: Rule, values: list[object], message: str
) -> None:
    for value in values:
        with pytest.raises(UsageError) as refused:
            check({"x": rule}, {"x": value})
        assert str(refused.value).startswith("parameter x = ")
        assert str(refused.value).endswith(f": must be {message}")


def test_a_bound_may_be_what_another_parameter_says() -> None:
    rules = {"features": Whole("2 * support", 64), "support": Whole(1, 9)}
    assert check(rules, {"features": 6, "support": 3}) == {"features": 6, "support": 3}
    with pytest.raises(UsageError, match=r"features = 5: .* between 6 \(2 \* support\) and 64"):
        check(rules, {"features": 5, "support": 3})
    for wrong in ("many", None, HUGE):  # the one that is named is the one that is refused, or both
        with pytest.raises(UsageError, match=r"parameter (support|features) = "):
            check(rules, {"features": 5, "support": wrong})


def test_a_list_may_be_as_long_as_another() -> None:
    rules = {"decays": ListOf(Number(0, 1)), "strengths": ListOf(Number(0, 9), "decays")}
    check(rules, {"decays": [0.1, 0.2], "strengths": [1, 1]})
    with pytest.raises(UsageError, match=r"strengths = \[1\]: .*as many values as decays has"):
        check(rules, {"decays": [0.1, 0.2], "strengths": [1]})
    with pytest.raises(UsageError, match="parameter decays = 3"):
        check(rules, {"decays": 3, "strengths": [1]})


def test_a_parameter_that_is_not_set_is_told() -> None:
    with pytest.raises(UsageError, match="parameter x is not set"):
        check({"x": Whole(1, 2)}, {})


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from([10**4_000, -(10**4_000), 10**400, "-" * 10_000, 10**11, sys.maxsize + 1]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=20,
)
RULES: dict[str, Rule] = {
    "whole": Whole(1, "most"),
    "number": Number(0, 1),
    "word": OneOf(*(f"a data set with a long name, number {n}" for n in range(20))),
    "wholes": ListOf(Whole(1, 9)),
    "numbers": ListOf(Number(0, "2 * most"), "wholes"),
    **COMMON,
}


def attempt(
    rules: Mapping[str, Rule], values: Mapping[str, object]
) -> tuple[dict[str, object], str]:
    """What is accepted, and the refusal; any other exception is a fault."""
    try:
        return check(rules, values), ""
    except UsageError as error:
        return {}, str(error)


@given(st.fixed_dictionaries(dict.fromkeys([*RULES, "most"], ANYTHING)))
@example(dict.fromkeys([*RULES, "most"], [[[]] * 50] * 50))
def test_whatever_a_notebook_holds_is_accepted_or_refused_in_one_short_line(
    values: Mapping[str, object],
) -> None:
    for name, rule in RULES.items():
        accepted, refusal = attempt({name: rule}, values)
        assert len(refusal) <= LONGEST_MESSAGE
        assert "\n" not in refusal
        if not refusal:
            assert check({name: rule}, {**values, **accepted}) == accepted


def test_a_list_within_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    for _ in range(5_000):
        endless = [endless]
    for rule in RULES.values():
        with pytest.raises(UsageError, match="parameter x = "):
            check({"x": rule}, {"x": endless, "most": 3})


@given(st.text(), st.integers(5, 40))
def test_a_shortened_text_keeps_its_ends(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert len(short) <= longest
    assert short == text or (" … " in short and short[0] == text[0])


OPENING = """\
page = Page(
    "3.1",
    globals(),
    dataset=OneOf("a", "b"),
    width=Whole(1, 1_024),
    noise=Number(least=0, most=1e6),
    sizes=ListOf(Whole("width", 9), "dial"),
    shift=Number(-1, 1),
)
"""


def test_rules_are_read_from_the_text_as_python_makes_them() -> None:
    made: dict[str, object] = {}

    def page(section: str, notebook: object, **rules: object) -> None:
        made.update(rules)

    names = {"Page": page, "OneOf": OneOf, "Whole": Whole, "Number": Number, "ListOf": ListOf}
    exec(OPENING, names)
    assert read(["%matplotlib inline", "x = 1", OPENING, "page = Page('other')"]) == made
    assert read(["seeds = 4", "Page(", "# Page()"]) == {}


@pytest.mark.parametrize(
    "rule",
    ["Whole(1)", "Whole(1, f())", "print(1)", "most", "3", "OneOf(*names)", "Page()"],
)
def test_a_rule_that_cannot_be_read_is_told(rule: str) -> None:
    with pytest.raises(UsageError, match="write one of Whole, Number, OneOf, ListOf with literal"):
        read([f"page = Page('3.1', globals(), width={rule})"])
