"""What a page depends on: small packages on disk, and the real one against what Python imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes

from mtlbook.book.runner.book import open_book
from mtlbook.book.runner.cells import read_cells
from mtlbook.book.runner.imports import EXECUTES, SHOWING, Package, read_source
from tests.project import ROOT, package_modules

FILES = {
    "__init__.py": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from mtlbook.seldom import Seldom
        HOMES = {"Seldom": "mtlbook.seldom", "Often": "mtlbook.often"}
        def __getattr__(name):
            return getattr(import_module(HOMES[name]), name)
        """,
    "seldom.py": "Seldom = 1",
    "often.py": "from .data import rows",
    "data/__init__.py": "",
    "data/rows.py": "import mtlbook.data.units as units",
    "data/units.py": "",
    "data/other.py": "",
    "data/registry.toml": "a = 1",
    "book/__init__.py": "",
    "book/page.py": "from mtlbook.book import exercises, studies",
    "book/claims.toml": """
        [[claim]]
        section = "3.1"
        statement = "a"
        [[claim]]
        id = "3.2-b"
        section = "3.2"
        statement = "b"
        """,
    "book/exercises/__init__.py": "import_module(f'{__name__}.{name}')",
    "book/exercises/section_3_1.py": "from mtlbook import seldom",
    "book/exercises/section_3_2.py": "import mtlbook.data.other",
    "book/studies/__init__.py": "importlib.import_module(name)",
    "book/studies/one.py": "",
    "book/studies/records/one.json": '{"section": "3.1"}',
    "book/studies/records/two.json": '{"section": "3.2"}',
    "book/runner/__init__.py": "",
    "book/runner/worker.py": "",
    "book/runner/run.py": "",
}
EXECUTOR = {"mtlbook", "mtlbook.book", "mtlbook.book.runner", EXECUTES}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "mtlbook"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[8:] for line in text.split("\n")) if "\n" in text else text)
    return folder


def page(*cells: str) -> str:
    return writes(new_notebook(cells=[new_code_cell(source) for source in cells]))


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import numpy, os.path", set()),
        ("import mtlbook.data", {"mtlbook.data", "mtlbook.seldom", "mtlbook.often"}),
        ("from mtlbook.data import units", {"mtlbook.data", "mtlbook.data.units"}),
        ("from mtlbook.data.units import metre", {"mtlbook.data", "mtlbook.data.units"}),
        ("from mtlbook import Seldom", {"mtlbook.seldom"}),
        (
            "from mtlbook import Often",
            {"mtlbook.often", "mtlbook.data", "mtlbook.data.rows", "mtlbook.data.units"},
        ),
        ("def late():\n    from mtlbook import seldom", {"mtlbook.seldom"}),
        ("%matplotlib inline\n!ls\nfrom mtlbook import seldom", {"mtlbook.seldom"}),
        ("import_module('mtlbook.seldom')", {"mtlbook.seldom"}),
        (
            "from mtlbook.book import page",
            {
                *("mtlbook.book.page", "mtlbook.book.exercises", "mtlbook.book.studies"),
                *("mtlbook.book.exercises.section_3_1", "mtlbook.seldom"),
            },
        ),
    ],
)
def test_a_page_reaches_what_it_imports_and_what_that_imports(
    source: str, modules: set[str], package: Path
) -> None:
    reached = Package(package).reached("3.1", page("x = 1", source))
    # `import mtlbook` brings all lazy names within reach, and what they need.
    if "import mtlbook.data" in source:
        modules |= {"mtlbook.data.rows", "mtlbook.data.units"}
    assert reached - EXECUTOR == modules - EXECUTOR


@pytest.mark.parametrize("source", ["%%cython\n??", "import_module(name)", "__import__(a + b)"])
def test_what_cannot_be_read_depends_on_everything(source: str, package: Path) -> None:
    found = Package(package)
    assert found.reached("3.1", page(source)) == set(found.modules)


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("data/units.py", True),
        ("data/__init__.py", True),
        ("book/runner/worker.py", True),
        ("data/registry.toml", True),
        ("book/studies/records/one.json", True),
        ("data/other.py", False),
        ("often.py", False),
        ("book/exercises/section_3_2.py", False),
        ("book/studies/one.py", False),
        ("book/studies/records/two.json", False),
        ("book/runner/run.py", False),
    ],
)
def test_an_edit_counts_where_the_page_depends_on_it(
    edited: str, counts: bool, package: Path
) -> None:
    notebook = page("from mtlbook.data import rows", "from mtlbook.book.page import Page")
    before = Package(package).hash("3.1", notebook)
    path = package / edited
    path.write_text(path.read_text().replace('"}', '", "a": 1}') + "\n\n")
    assert (Package(package).hash("3.1", notebook) != before) == counts


def test_of_the_claims_only_the_sections_own_count(package: Path) -> None:
    notebook = page("from mtlbook.book.page import Page")
    hashes = {section: Package(package).hash(section, notebook) for section in ("3.1", "3.2")}
    path = package / "book" / "claims.toml"
    path.write_text(path.read_text().replace('"b"', '"c"'))
    assert Package(package).hash("3.1", notebook) == hashes["3.1"]
    assert Package(package).hash("3.2", notebook) != hashes["3.2"]
    path.write_text("[[claim")  # malformed: it counts as a whole
    assert Package(package).hash("3.1", notebook) != hashes["3.1"]


@pytest.mark.parametrize("cell", ["page.ledger()", "page.answer('{3.2-b|digits}')"])
def test_the_claims_that_a_page_names_count_and_all_where_it_reads_the_ledger(
    cell: str, package: Path
) -> None:
    notebook = page("from mtlbook.book.page import Page", cell)
    before = Package(package).hash("3.1", notebook)
    path = package / "book" / "claims.toml"
    path.write_text(path.read_text().replace('"b"', '"c"'))
    assert Package(package).hash("3.1", notebook) != before


@pytest.mark.parametrize(
    ("edited", "old", "new", "counts"),
    [
        ("data/units.py", "", "x = 1", True),
        ("book/page.py", "", "x = 1", True),
        ("book/claims.toml", 'statement = "a"', 'statement = "a"\nsmallest = 5', True),
        ("book/claims.toml", '"a"', '"words"', False),
        ("__init__.py", "", '"""Public names."""', False),  # which are lazy
        ("book/glossary.toml", "", "terms = []", False),
        ("data/registry.toml", "", "[school]", False),
        ("README.md", "", "# The library", False),
        ("book/runner/worker.py", "", "x = 1", False),
        ("book/exercises/section_3_1.py", "", "x = 1", False),
        ("seldom.py", "", "x = 1", False),  # which an exercise alone needs
    ],
)
def test_effects_depend_on_what_measures_and_not_on_what_shows(
    edited: str, old: str, new: str, counts: bool, package: Path
) -> None:
    notebook = page("from mtlbook.data import rows", "from mtlbook.book.page import Page")
    before = Package(package).hash_of_results("3.1", notebook)
    path = package / edited
    text = path.read_text() if path.exists() else ""
    path.write_text(text.replace(old, new) if old else text + new)
    assert (Package(package).hash_of_results("3.1", notebook) != before) == counts


CHAPTERS = {chapter.section: chapter for chapter in open_book(ROOT / "notebooks").chapters}

IMPORTED = """
import sys
exec(sys.stdin.read(), {})
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "mtlbook"))
"""


@pytest.mark.parametrize("section", ["3.1", "5.1"])
def test_python_imports_nothing_that_is_not_reached(section: str) -> None:
    source = CHAPTERS[section].source
    cells = [cell.source for cell in read_cells(source) if cell.kind == "code"]
    statements = [
        ast.unparse(node)
        for cell in cells
        for node in ast.parse(cell).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    asked = f"from mtlbook.book import exercises\nexercises.of({section!r})"
    opened = "\n".join([*statements, asked])
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], input=opened, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert "mtlbook.book.page" in modules
    assert modules <= Package().reached(section, source)


def test_a_page_of_the_book_does_not_depend_on_every_module() -> None:
    package = Package()
    reached = {one: package.reached(one, each.source) for one, each in CHAPTERS.items()}
    assert "mtlbook.non_neural.block_sparse" in reached["5.1"]
    for section in ("1", "3.1", "6.6"):
        assert "mtlbook.non_neural.block_sparse" not in reached[section]
        assert "mtlbook.book.commands" not in reached[section]


def test_what_only_shows_are_modules_that_nothing_measures_by() -> None:
    """Who draws and who measures: what trains or compares imports nothing of the former."""
    package = Package()
    assert set(SHOWING) <= set(package.modules)
    measuring = ("mtlbook.statistics", "mtlbook.book.claims", "mtlbook.training.fit")
    for name in measuring:
        reached = package.reached("3.1", page(f"import {name} as one"))
        executes = package.reached("3.1", page("x = 1"))
        assert not {one for one in reached - executes if one in SHOWING}


def test_only_known_modules_compute_the_name_of_what_they_import() -> None:
    """Each of them makes a page depend on every module, unless it is a case of its own."""
    choosing = {
        name
        for name, path in package_modules().items()
        if (source := read_source(path.read_text(encoding="utf-8"), name)) and source.chooses
    }
    assert choosing == {"mtlbook", "mtlbook.book.exercises", "mtlbook.book.studies"}
