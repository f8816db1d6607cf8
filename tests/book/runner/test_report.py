from pathlib import Path

import pandas as pd
import pytest

from mtlbook.book import ledger
from mtlbook.book.replication import Replication
from mtlbook.book.runner.report import BEGIN, END, summary, update_readme, with_summary
from mtlbook.errors import UsageError

EMPTY = ledger.frame([], Replication())


def test_only_what_lies_between_the_marks_changes() -> None:
    readme = f"before {BEGIN} old {END} after"
    once = with_summary(readme, EMPTY)
    assert once.startswith(f"before {BEGIN}")
    assert once.endswith(f"{END} after")
    assert "old" not in once
    assert with_summary(once, EMPTY) == once


@pytest.mark.parametrize("readme", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_readme_without_the_marks_is_refused(readme: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(readme)
    with pytest.raises(UsageError, match="lacks the marks"):
        update_readme(path, EMPTY)
    assert path.read_text() == readme


def test_no_readme_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        update_readme(tmp_path / "README.md", EMPTY)


def test_the_counts_are_those_of_the_verdicts_by_role() -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "a", "b", "c"],
            "verdict": ["supported", "slight", "passed", "supported"],
            "role": ["mechanism present", "real data", "mechanism off", "mechanism present"],
            "agreement": ["same verdict", "other verdict", "same verdict", "not replicated"],
        }
    )
    sentence, _, *table = summary(frame).splitlines()
    assert sentence.startswith(
        "3 claims and controls with 4 results; of the 3 that were replicated"
    )
    assert ", 2 have the verdict of the page's own 16 seeds, and 0 the opposite" in sentence
    assert table == [
        "| verdict | constructed data | real data | controls |",
        "|---|--:|--:|--:|",
        "| supported | 2 |  |  |",
        "| slight |  | 1 |  |",
        "| passed |  |  | 1 |",
    ]
