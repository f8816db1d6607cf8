from pathlib import Path

import pytest

from mtlbook.book.files import write_atomically
from mtlbook.errors import UsageError


def test_a_file_and_its_folder_are_made(tmp_path):
    write_atomically(tmp_path / "new" / "file", b"whole")
    assert (tmp_path / "new" / "file").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_reader_of_the_old_file_never_sees_a_part_of_the_new_one(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_bytes = Path.write_bytes

    def interrupted(self, content):
        write_bytes(self, content[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path):
    (tmp_path / "in_the_way").touch()
    with pytest.raises(UsageError, match=r"in_the_way.*choose a folder that can be written"):
        write_atomically(tmp_path / "in_the_way" / "file", b"")
