from pathlib import Path

import pytest

from mtlbook.book.runner.report import BEGIN, END, update_readme, with_table
from mtlbook.errors import UsageError


def test_only_what_lies_between_the_marks_changes() -> None:
    readme = f"before {BEGIN} old {END} after"
    once = with_table(readme, [])
    assert once.startswith(f"before {BEGIN}")
    assert once.endswith(f"{END} after")
    assert "old" not in once
    assert with_table(once, []) == once


@pytest.mark.parametrize("readme", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_readme_without_the_marks_is_refused(readme: str, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(readme)
    with pytest.raises(UsageError, match="lacks the marks"):
        update_readme(path, [])
    assert path.read_text() == readme


def test_no_readme_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        update_readme(tmp_path / "README.md", [])
