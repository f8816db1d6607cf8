"""Tiny books in temporary folders, executed for real."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mtlbook.book import commands

PARAMETERS = """\
seeds = 4  # replicates
first_seed = 0  # the first of them
device = "cpu"  # where
dataset = "tiny"  # of what
"""

RECORD = """\
import json, os, pathlib
output = pathlib.Path(os.environ["MTLBOOK_OUTPUT"])
for name in ("claims", "figures"):
    (output / name).mkdir(parents=True, exist_ok=True)
record = dict(
    id="c{section}", section="{section}", statement="it helps", effect=1.0, low=0.5, high=1.5,
    p=0.01, smallest=0.1, seeds=seeds, verdict="supported", data=dataset, notebook="n",
    role="real data",
)
_ = (output / "claims" / "{section}.json").write_text(json.dumps([record]))
_ = (output / "figures" / "{underscores}_effect.png").write_bytes(b"image")
"""


def opening(section: str, rules: str) -> str:
    """A cell that declares rules, and does nothing: the real page takes seconds to import."""
    return (
        "Page = Whole = Number = OneOf = ListOf = lambda *_, **__: None\n"
        f'page = Page("{section}", globals(), {rules})'
    )


LEDGER = """\
import json, os, pathlib, types
output = pathlib.Path(os.environ["MTLBOOK_OUTPUT"])
def ledger():
    claims = json.loads((output / "claims.json").read_text())["claims"]
    pages = json.loads((output / "replication.json").read_text())["pages"]
    return [f"{one['id']} with {one['seeds']} seeds" for one in claims], [*pages]
page = types.SimpleNamespace(ledger=ledger)
print(*page.ledger())
"""


def ledger_page(folder: Path, section: str) -> Path:
    """Write a page that is made from the ledger: it shows it, and records nothing."""
    path = chapter(folder, section, LEDGER, parameters="")
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[-1], notebook.cells[1]
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def chapter(folder: Path, section: str, *cells: str, parameters: str = PARAMETERS) -> Path:
    """Write a chapter that executes the cells and then records a claim and a figure.

    Section 0 lies in the root, as in the book.
    """
    underscores = section.replace(".", "_")
    record = RECORD.replace("{section}", section).replace("{underscores}", underscores)
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    code = [new_code_cell(source) for source in (*cells, record)]
    notebook = new_notebook(cells=[new_markdown_cell(f"# Title of {section}"), tagged, *code])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    part = folder if section == "0" else folder / f"{section.split('.')[0]}_part"
    path = part / f"{underscores}_title.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty clone of the book, as the working directory."""
    folder = tmp_path / "clone"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "requirements.txt").write_text("torch==2.13.0\n")
    monkeypatch.chdir(folder)
    return folder


class Cli:
    """The command line in this process: `code, out, err` of the latest call."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self.capsys = capsys

    def __call__(self, *arguments: str) -> int:
        self.capsys.readouterr()
        self.code = commands.main(arguments)
        self.out, self.err = self.capsys.readouterr()
        return self.code


@pytest.fixture
def mtlbook(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    # Parallel workers of pytest believe that they write to 80 columns: tables would wrap.
    monkeypatch.delenv("COLUMNS", raising=False)
    return Cli(capsys)


def files(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def claims(path: Path) -> list[dict[str, object]]:
    return json.loads(path.read_text())["claims"]
