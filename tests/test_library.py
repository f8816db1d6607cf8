"""The library needs nothing of what makes a book of it."""

import subprocess
import sys
from pathlib import Path

import pytest

import mtlbook

PACKAGE = Path(mtlbook.__file__).parent
BOOK_ONLY = (
    "h5py", "tqdm", "matplotlib", "seaborn", "papermill", "typer", "rich", "IPython", "ipykernel",
    "ipywidgets", "jupyterlab", "nbclient", "nbformat", "distributed", "mtlbook.book",
)  # fmt: skip
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {BOOK_ONLY} or name.split(".")[0] in {BOOK_ONLY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def modules() -> list[str]:
    """All modules of the library by name."""
    files = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    outside = [name for name in names if not f"{name}.".startswith("mtlbook.book.")]
    return sorted(name for name in outside if not name.endswith("__main__"))


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter in which what only the book needs is not installed."""
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", BLOCKED + code],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_of_the_library_imports_without_the_book():
    found = modules()
    assert "mtlbook.data.usps" in found
    assert not [name for name in found if name.startswith("mtlbook.book")]
    done = run(
        "import importlib\n"
        f"for name in {found}:\n"
        "    importlib.import_module(name)\n"
        "import mtlbook\n"
        "for name in mtlbook.__all__:\n"
        "    getattr(mtlbook, name)\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_blocked_are_blocked():
    for name in ("h5py", "matplotlib.pyplot", "mtlbook.book.page"):
        done = run(f"import {name}")
        assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("part", ["train", "test"])
def test_usps_says_what_reads_it_where_that_is_missing(part, tmp_path):
    done = run(
        "from pathlib import Path\n"
        "from mtlbook.data.usps import read_part\n"
        "from mtlbook.errors import UsageError\n"
        "try:\n"
        f"    read_part(Path({str(tmp_path / 'usps.h5')!r}), {part!r})\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    assert "takes h5py to read: install it with the extra" in done.stdout, done.stderr
