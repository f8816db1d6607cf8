import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlbook.book.runner.fingerprint import fingerprint, results_fingerprint, source_hash
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
        fingerprint(text, "package", b"lock", {"seeds": 4}, {"claims.json": b"{}"}),
        fingerprint(other, "package", b"lock", {"seeds": 4}, {"claims.json": b"{}"}),
        fingerprint(text, "other", b"lock", {"seeds": 4}, {"claims.json": b"{}"}),
        fingerprint(text, "package", b"other", {"seeds": 4}, {"claims.json": b"{}"}),
        fingerprint(text, "package", b"lock", {"seeds": 5}, {"claims.json": b"{}"}),
        fingerprint(text, "package", b"lock", {}, {"claims.json": b"{}"}),
        fingerprint(text, "package", b"lock", {"seeds": 4}, {"claims.json": b"other"}),
        fingerprint(text, "package", b"lock", {"seeds": 4}, {"other.json": b"{}"}),
        fingerprint(text, "package", b"lock", {"seeds": 4}, {}),
    ]
    assert len(set(prints)) == len(prints)
    again = fingerprint(text, "package", b"lock", {"seeds": 4}, {"claims.json": b"{}"})
    assert again == prints[0]


COMPUTING = "trained = fit(width=8)\npage.claim('3.1-a', method=trained)"

SAME_EFFECTS = {
    "comments": f"# more is said here\n{COMPUTING}",
    "layout": "trained = fit(\n    width=8,\n)\npage.claim('3.1-a', method=trained)",
    "what is shown": f"{COMPUTING}\npage.finding(f'It fell by {{trained}}.')\npage.table(trained)",
    "a text alone": f"'Words.'\n{COMPUTING}",
}

OTHER_EFFECTS = {
    "a number": COMPUTING.replace("8", "9"),
    "a call that measures": COMPUTING.replace("page.claim", "page.control"),
    "what else is computed": f"{COMPUTING}\nx = page.table(trained)",
    "order": "\n".join(reversed(COMPUTING.split("\n"))),
    "what is no Python": f"{COMPUTING}\n$",
}


def _of_results(folder: Path, *cells: str, code: str = "package", seeds: int = 64) -> str:
    return results_fingerprint(chapter(folder, "3.1", *cells).read_text(), code, {"seeds": seeds})


@pytest.mark.parametrize("edit", SAME_EFFECTS)
def test_words_and_layout_do_not_outdate_a_replication(edit: str, tmp_path: Path) -> None:
    assert _of_results(tmp_path, SAME_EFFECTS[edit]) == _of_results(tmp_path, COMPUTING)


def test_prose_outputs_and_committed_parameters_do_not_outdate_a_replication(
    tmp_path: Path,
) -> None:
    text = chapter(tmp_path, "3.1", COMPUTING).read_text()
    edited = json.loads(text)
    edited["cells"][0]["source"] = "# Another title"
    edited["cells"][1]["source"] = "seeds = 5"
    edited["cells"][2]["execution_count"] = 7
    same = results_fingerprint(json.dumps(edited), "package", {"seeds": 64})
    assert same == results_fingerprint(text, "package", {"seeds": 64})


@pytest.mark.parametrize("edit", OTHER_EFFECTS)
def test_what_is_computed_outdates_a_replication(edit: str, tmp_path: Path) -> None:
    assert _of_results(tmp_path, OTHER_EFFECTS[edit]) != _of_results(tmp_path, COMPUTING)


def test_code_and_seeds_outdate_a_replication(tmp_path: Path) -> None:
    one = _of_results(tmp_path, COMPUTING)
    assert one != _of_results(tmp_path, COMPUTING, code="other")
    assert one != _of_results(tmp_path, COMPUTING, seeds=16)
