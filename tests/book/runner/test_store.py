import json
from pathlib import Path

import pytest

from mtlbook.book.runner.job import Effort, Outcome
from mtlbook.book.runner.store import Store, check_writable
from mtlbook.errors import UsageError
from tests.tiny_book import files

NAME = "3_part/3_1_title.ipynb"


def outcome(**figures: bytes) -> Outcome:
    named = {f"{name}.png": content for name, content in figures.items()}
    effort = Effort(1.01, 432_100_000)
    return Outcome("3.1", 1.23, "{}", [{"id": "c"}], named, effort=effort)


def test_a_published_chapter_is_current_until_anything_differs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.current("3.1", "print") is None
    record = store.publish(outcome(a=b"a"), NAME, "print", {"seeds": 2})
    assert store.current("3.1", "print") == record
    assert (record.seconds, record.processor_seconds, record.megabytes) == (1.2, 1.0, 432)
    assert store.current("3.1", "other") is None
    (tmp_path / "figures" / "a.png").unlink()
    assert store.current("3.1", "print") is None
    store.publish(outcome(a=b"a"), NAME, "print", {})
    store.run("3.1").write_text('{"section"')  # as a full disk leaves it
    assert store.current("3.1", "print") is None


def test_what_a_chapter_no_longer_makes_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.publish_failure(outcome(), NAME)
    store.publish(outcome(a=b"a", b=b"b"), NAME, "1", {})
    store.figure("other.png").write_bytes(b"of another chapter")
    store.publish(outcome(b=b"new", c=b"c"), NAME, "2", {})
    assert files(tmp_path) == {
        "notebooks/3_part/3_1_title.ipynb", "claims/3.1.json", "runs/3.1.json",
        "figures/b.png", "figures/c.png", "figures/other.png",
    }  # fmt: skip
    assert (tmp_path / "figures" / "b.png").read_bytes() == b"new"
    assert json.loads((tmp_path / "claims" / "3.1.json").read_text()) == [{"id": "c"}]


@pytest.mark.parametrize("survives", range(4), ids=["notebook", "claims", "figure", "record"])
def test_a_run_that_ends_between_two_writes_has_no_record(
    survives: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.publish(outcome(a=b"a"), NAME, "old", {})
    replaced = 0
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal replaced
        replaced += 1
        if replaced > survives:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.publish(outcome(a=b"new"), NAME, "new", {})
    assert store.current("3.1", "old") is None
    assert store.current("3.1", "new") is None
    assert not list(tmp_path.rglob(".*"))


def test_check_writable_leaves_no_trace(tmp_path: Path) -> None:
    check_writable([tmp_path / "a" / "b", tmp_path])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write into .*--output"):
        check_writable([tmp_path / "file" / "below"])
    with pytest.raises(UsageError, match="cannot write into"):
        check_writable([tmp_path / "file"])
    assert files(tmp_path) == {"file"}
