import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlbook.book.runner.fingerprint import fingerprint, source_hash
from tests.tiny_book import chapter


def test_outputs_and_counts_are_no_source(tmp_path: Path) -> None:
    text = chapter(tmp_path, "3.1", "print(1)").read_text()
    executed = json.loads(text)
    executed["cells"][2]["execution_count"] = 7
    executed["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    executed["metadata"]["language_info"] = {"name": "python"}
    assert source_hash(json.dumps(executed)) == source_hash(text)


EDITS: dict[str, Callable[[list[dict[str, object]]], object]] = {
    "source": lambda cells: cells[2].update(source="print(2)"),
    "prose": lambda cells: cells[0].update(source="# Other"),
    "kind": lambda cells: cells[0].update(cell_type="raw"),
    "order": lambda cells: cells.reverse(),
    "tag": lambda cells: cells[1].update(metadata={}),
    "removal": lambda cells: cells.pop(),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_any_cell_changes_the_hash(edit: str, tmp_path: Path) -> None:
    text = chapter(tmp_path, "3.1", "print(1)").read_text()
    edited = json.loads(text)
    EDITS[edit](edited["cells"])
    assert source_hash(json.dumps(edited)) != source_hash(text)


def test_everything_that_a_result_depends_on_counts(tmp_path: Path) -> None:
    text = chapter(tmp_path, "3.1").read_text()
    other = chapter(tmp_path, "3.1", "print(1)").read_text()
    prints = [
        fingerprint(text, "package", b"lock", {"seeds": 4}),
        fingerprint(other, "package", b"lock", {"seeds": 4}),
        fingerprint(text, "other", b"lock", {"seeds": 4}),
        fingerprint(text, "package", b"other", {"seeds": 4}),
        fingerprint(text, "package", b"lock", {"seeds": 5}),
        fingerprint(text, "package", b"lock", {}),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(text, "package", b"lock", {"seeds": 4}) == prints[0]
