import re

import numpy as np
import pandas as pd
import pytest

from mtlbook.book.table import render


def sides(html: str) -> list[list[str]]:
    """Where the cells of each row stand."""
    rows = re.findall("<tr>(.*?)</tr>", html)
    return [re.findall(r'<t[hd] align="\w+" style="text-align: (\w+)">', row) for row in rows]


def test_a_table_has_fixed_digits_no_row_numbers_and_no_negative_0():
    frame = pd.DataFrame({"task": ["a<b", "b"], "error": [-1e-17, 1 / 3], "seeds": [4, 8]})
    text, html = render(frame, 2, "Errors < 1.")
    assert text.splitlines() == [
        "Errors < 1.",
        "task  error  seeds",
        "a<b    0.00      4",
        "b      0.33      8",
    ]
    assert "<caption>Errors &lt; 1.</caption>" in html
    assert "a&lt;b" in html
    assert "id=" not in html


def test_text_stands_left_and_numbers_stand_right_in_header_and_rows():
    frame = pd.DataFrame(
        {
            "method": ["hard sharing", "single-task"],
            "with interval": ["+1.0 % [+0.5, +1.5]", "–"],
            "gap": ["1e-07", "3e-12"],
            "share": ["12 %", "−3 %"],
            "steps": [1_000, 20],
            "loss": [0.5, np.nan],
            "mixed": [0.5, "failed"],
        }
    )
    left, right = "left", "right"
    assert sides(render(frame, 3)[1]) == 3 * [[left, left, right, right, right, right, left]]


@pytest.mark.parametrize("index", ["method", None])
def test_the_name_of_the_columns_level_makes_no_column(index):
    frame = pd.DataFrame(
        [[1.0, 2.0]],
        index=pd.Index(["hard"], name=index),
        columns=pd.Index(["task_1", "task_2"], name="task"),
    )
    text, html = render(frame, 1)
    assert re.findall("<th .*?>(.*?)</th>", html) == [index or "", "task 1", "task 2"]
    assert text.splitlines()[0].split() == [*([index] if index else []), "task", "1", "task", "2"]
    flat = frame.reset_index(drop=True)
    assert re.findall("<th .*?>(.*?)</th>", render(flat, 1)[1]) == ["task 1", "task 2"]


def test_a_header_of_several_levels_is_one_line():
    columns = pd.MultiIndex.from_tuples([("loss", "task_1"), ("chosen", "")], names=["", "task"])
    frame = pd.DataFrame([[1.0, "rate 0.1"]], columns=columns)
    assert render(frame, 1)[0] == "loss, task 1  chosen\n         1.0  rate 0.1"


def test_an_index_that_says_something_is_kept_and_what_is_missing_is_shown():
    frame = pd.DataFrame({"error": [np.nan, 1.0]}, index=["hard", "soft"])
    assert render(frame, 3)[0] == "      error\nhard      –\nsoft  1.000"
    assert render(frame.rename_axis("method"), 3)[0] == (
        "method  error\nhard        –\nsoft    1.000"
    )
    both = frame.assign(part="test").set_index("part", append=True)
    assert render(both, 1)[0].splitlines()[1] == "hard  test      –"


def test_two_columns_of_one_name_and_an_empty_table_are_shown():
    frame = pd.DataFrame([[1, None]], columns=["a", "a"])
    assert render(frame, 3)[0] == "a  a\n1  –"
    assert render(frame.iloc[:0], 3)[0] == "a  a"


def test_numbers_of_every_kind_are_formatted():
    frame = pd.DataFrame({"a": [np.float32(0.5), 1, True, float("inf"), (1, 2.5)]}, dtype=object)
    assert [line.strip() for line in render(frame, 2)[0].splitlines()[1:]] == [
        "0.50", "1", "True", "inf", "(1, 2.5)",
    ]  # fmt: skip
