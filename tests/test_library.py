"""The library needs nothing of what makes a book of it, and is small."""

import ast
import io
import subprocess
import sys
import tokenize

import pytest

from tests.project import package_modules, settings

# The library without the folders to which every method or data set adds a file; and such a file.
FLOOR_AT_MOST = 3000
FILE_AT_MOST = 310
GROWING = (
    "sharing", "mechanisms", "non_neural", "architectures", "auxiliary", "weighting", "balancing",
    "transfer", "data",
)  # fmt: skip
BOOK_ONLY = (
    "h5py", "tqdm", "matplotlib", "seaborn", "papermill", "typer", "rich", "IPython", "ipykernel",
    "ipywidgets", "jupyterlab", "nbclient", "nbformat", "distributed", "docutils", "sphinx",
    "myst_nb", "sphinx_book_theme", "mtlbook.book",
)  # fmt: skip
BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {names} or name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def library() -> list[str]:
    """All modules of the library by name."""
    return [name for name in package_modules() if not f"{name}.".startswith("mtlbook.book.")]


def run(code: str, blocked: tuple[str, ...] = BOOK_ONLY) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter in which some modules are not installed."""
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", BLOCK.format(names=blocked) + code],
        capture_output=True,
        text=True,
        check=False,
    )


def lines_of_code(text: str) -> int:
    """Lines that hold more than comments, docstrings and blanks."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            first = node.body[0]
            code.difference_update(range(first.lineno, (first.end_lineno or 0) + 1))
    return len(code)


def test_every_module_of_the_library_imports_without_the_book():
    found = library()
    assert {"mtlbook.data.mnist", "mtlbook.statistics"} < set(found)
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


def test_the_command_says_in_one_line_how_to_get_the_book():
    module, _, function = settings()["project"]["scripts"]["mtlbook"].partition(":")
    done = run(f"import {module}; sys.exit({module}.{function}())", blocked=("typer",))
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "typer is missing" in line
    assert "pip install 'mtlbook[book]'" in line


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('"""Two\nlines."""\n\n# A comment.\nx = 1  # and another\n', 1),
        ('def f():\n    """One."""\n    return (\n        1\n    )\n', 4),
        ('class C:\n    """One."""\n\n    x = """a\n\n    b"""\n', 4),
    ],
)
def test_lines_of_code_are_counted(text, lines):
    assert lines_of_code(text) == lines


def counted() -> dict[str, int]:
    """The lines of code of each module of the library."""
    files = package_modules()
    return {name: lines_of_code(files[name].read_text(encoding="utf-8")) for name in library()}


def grows(name: str) -> bool:
    """Whether a module stands in a folder to which methods or data sets add files."""
    return name.split(".")[1:2] in [[folder] for folder in GROWING]


def test_the_floor_is_small():
    floor = {name: lines for name, lines in counted().items() if not grows(name)}
    assert sum(floor.values()) < FLOOR_AT_MOST, floor


def test_every_file_of_a_method_or_data_set_is_small():
    files = {name: lines for name, lines in counted().items() if grows(name)}
    assert files
    assert max(files.values()) < FILE_AT_MOST, files
