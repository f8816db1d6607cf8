import json
from pathlib import Path
from typing import Any

import pytest

from mtlbook.book import replication
from mtlbook.book.replication import Replication, merge, read, to_json, write
from mtlbook.errors import UsageError


def record(key: str = "3.1-a", data: str = "digits", **changes: object) -> Any:
    """What a page recorded, as far as the replication looks at it."""
    return {
        "id": key, "section": key.split("-")[0], "statement": "s", "effect": 1.0, "low": 0.5,
        "high": 1.5, "p": 0.01, "smallest": 0.1, "seeds": 64, "verdict": "supported",
        "data": data, "notebook": "n",
    } | changes  # fmt: skip


def test_no_file_is_an_empty_replication(tmp_path: Path) -> None:
    assert read(tmp_path / "replication.json") == Replication()
    assert read(tmp_path / "replication.json").find("3.1-a", "digits") is None


def test_pages_are_merged_one_by_one_and_found_by_claim_and_data(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "replication.json"
    merge(path, "3.10", "ten", [record("3.10-z")])
    merge(path, "3.9", "nine", [record("3.9-b"), record("3.9-a", "wine"), record("3.9-a")])
    merge(path, "3.10", "newer", [record("3.10-z", effect=2.0)])
    content = json.loads(path.read_text())
    assert list(content) == ["pages"]
    assert list(content["pages"]) == ["3.9", "3.10"]
    assert [(one["id"], one["data"]) for one in content["pages"]["3.9"]["claims"]] == [
        ("3.9-a", "digits"), ("3.9-a", "wine"), ("3.9-b", "digits"),
    ]  # fmt: skip
    found = read(path)
    assert found.pages["3.10"].fingerprint == "newer"
    assert found.find("3.10-z", "digits") == record("3.10-z", effect=2.0)
    assert found.find("3.9-a", "wine") == record("3.9-a", "wine")
    assert found.find("3.9-a", "School") is None
    assert [one["id"] for one in found.records] == ["3.9-a", "3.9-a", "3.9-b", "3.10-z"]


def test_the_file_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    one = Replication().with_page("1", "x", [record("1-a"), record("1-b")])
    other = Replication().with_page("2", "y", [record("2-a")])
    one = one.with_page("2", "y", [record("2-a")])
    other = other.with_page("1", "x", [record("1-b"), record("1-a")])
    assert to_json(one) == to_json(other)


def test_stale_is_what_is_missing_or_was_found_by_other_code() -> None:
    found = Replication().with_page("1", "x", []).with_page("2", "y", [])
    assert found.stale({"1": "x", "2": "new", "3.1": "z"}) == ["2", "3.1"]


def test_a_page_sees_its_own_records_and_those_of_claims_that_it_names() -> None:
    found = Replication().with_page("1", "x", [record("1-a"), record("1-b")])
    found = found.with_page("2", "y", [record("2-a")]).with_page("4", "z", [record("4-a")])
    seen = found.about("2", ["1-b"])
    assert [one["id"] for one in seen.records] == ["1-b", "2-a"]
    assert seen == found.with_page("2", "other code", [record("2-a")]).about("2", ["1-b"])


def test_without_a_path_it_is_that_of_the_run_or_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "clone" / "notebooks" / "3_part"
    folder.mkdir(parents=True)
    (tmp_path / "clone" / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path / "output"))
    assert read() == Replication()
    committed = Replication().with_page("1", "committed", [])
    write(tmp_path / "clone" / "figures" / "replication.json", committed)
    assert read() == committed
    given = Replication().with_page("1", "given", [])
    write(tmp_path / "output" / "replication.json", given)
    assert read() == given


@pytest.mark.parametrize(
    "content",
    [
        "{", "3", "[]", "{}", '{"pages": []}', '{"pages": {"1": {}}}', '{"pages": {"1": 3}}',
        '{"pages": {"one": {"fingerprint": "", "claims": []}}}',
        '{"pages": {"1": {"fingerprint": "", "claims": [{"id": "1-a"}]}}}',
        json.dumps({"pages": {"1": {"fingerprint": "", "claims": [record("2-a")]}}}),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / replication.FILE
    path.write_text(content)
    with pytest.raises(UsageError, match=r"replication\.json holds no replication: delete it"):
        read(path)
