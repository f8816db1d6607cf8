"""`mtlbook run --update`: what is committed, byte by byte."""

import json
from pathlib import Path

from tests.tiny_book import Cli, chapter, claims, files

NOISY = """\
import sys, time
for number in range(3):
    print(number, flush=True)
    print("warned", number, file=sys.stderr, flush=True)
    time.sleep(0.01)
seeds
"""


def test_update_refreshes_the_clone_and_again_gives_the_same_bytes(
    clone: Path, mtlbook: Cli
) -> None:
    notebook = chapter(clone / "notebooks", "3.1", NOISY)
    chapter(clone / "notebooks", "3.2", "raise ValueError")
    failing = (clone / "notebooks/3_part/3_2_title.ipynb").read_bytes()
    figures = clone / "figures"
    figures.mkdir()
    kept = {"id": "k", "section": "3.1.1", "statement": "s", "effect": 1.0, "low": 0.5,
            "high": 1.5, "p": 0.1, "smallest": 0.1, "seeds": 16, "verdict": "supported",
            "data": "d", "notebook": "n", "role": "real data"}  # fmt: skip
    old = [kept, kept | {"id": "gone", "section": "3.1"}]
    (figures / "claims.json").write_text(json.dumps({"claims": old}))
    for name in ("3_1_old.png", "3_1_1_kept.png", "3_2_kept.png", "13_1_kept.png"):
        (figures / name).write_bytes(b"old")

    assert mtlbook("run", "--update", "--seeds", "4") == 1  # 4 is the committed value
    assert "Refreshed in the clone: 1 of 2" in mtlbook.out
    assert files(figures) == {
        "claims.json", "3_1_effect.png", "3_1_1_kept.png", "3_2_kept.png", "13_1_kept.png",
    }  # fmt: skip
    assert [one["id"] for one in claims(figures / "claims.json")] == ["c3.1", "k"]
    assert (clone / "notebooks/3_part/3_2_title.ipynb").read_bytes() == failing
    first = notebook.read_bytes()
    assert json.loads(first)["cells"][2]["execution_count"] == 2
    for word in (b"papermill", b"injected", b"duration", b"2026", str(clone).encode()):
        assert word not in first
    assert mtlbook("run", "3.1", "--update") == 0
    assert "up to date" in mtlbook.out
    assert notebook.read_bytes() == first
    assert mtlbook("run", "3.1", "--update", "--fresh") == 0
    assert "3.1 Title of 3.1: done" in mtlbook.out
    assert notebook.read_bytes() == first


def test_a_notebook_that_is_edited_while_it_runs_is_left_alone(clone: Path, mtlbook: Cli) -> None:
    edit = (
        "import pathlib\n"
        "path = pathlib.Path('3_1_title.ipynb')\n"
        "_ = path.write_text(path.read_text().replace('Title of', 'A better title of'))"
    )
    notebook = chapter(clone / "notebooks", "3.1", edit)
    assert mtlbook("run", "--update") == 1
    assert "3_part/3_1_title.ipynb was edited while it ran" in mtlbook.err
    assert "A better title of" in notebook.read_text()
    assert not (clone / "figures/3_1_effect.png").exists()


def test_update_needs_a_clone(clone: Path, mtlbook: Cli) -> None:
    chapter(clone / "elsewhere", "3.1")
    (clone / "pyproject.toml").unlink()
    assert mtlbook("run", "--update", "--notebooks", "elsewhere") == 2
    assert "--update needs a clone" in mtlbook.err
