"""Mutations of a notebook's stored outputs: nbval must fail for each one that matters."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]
SECONDS_PER_CELL = 10

SOURCES = (
    "print('loss', 0.123456789, 2**4, 'seeds:', 'support' + 'ed')",
    "from IPython.display import HTML\nHTML(f'<td>{0.987654321:.8f}</td>')",
    "display({'image/png': 4 * 'A', 'text/plain': 'a ' + 'curve'}, raw=True)",
)

# What replaces which piece of the stored outputs, and whether the notebook still passes.
MUTATIONS = {
    "unchanged": ("supported", "supported", True),
    "number_within_the_tolerance": ("loss 0.123456789", "loss 0.12345679", True),
    "number_in_html_within_the_tolerance": ("0.98765432<", "0.9876543<", True),
    "other_image": ('"AAAA"', '"BBBB"', True),
    "digit": ("loss 0.123456789", "loss 0.123457789", False),
    "digit_in_html": ("0.98765432<", "0.98775432<", False),
    "count": ("16 seeds", "17 seeds", False),
    "word": ("supported", "harmful", False),
    "alternative_text": ("a curve", "no curve", False),
    "no_image": ('"image/png": "AAAA", ', "", False),
}

# A cell that is added to the notebook as if it had shown nothing, and the failure it must cause.
FAULTY_CELLS = {
    "warning": ("import warnings\nwarnings.warn('careless', stacklevel=1)", "careless"),
    "new_output": ("print('more')", "more"),
    "usage_error": (
        "from mtlbook.errors import UsageError\nraise UsageError('seeds must be positive')",
        "UsageError: seeds must be positive",
    ),
    "exception": ("raise RuntimeError('broken')", "broken"),
    "dead_kernel": ("import os\nos._exit(1)", "the kernel died"),
    "endless_cell": ("while True:\n    pass", f"Timeout of {SECONDS_PER_CELL} seconds"),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The messages of the cells that failed, by notebook, from one run over all notebooks."""
    folder = tmp_path_factory.mktemp("notebooks")
    notebook = new_notebook(cells=[new_code_cell(source) for source in SOURCES])
    NotebookClient(notebook, kernel_name="python3").execute()
    stored = json.dumps(notebook)
    for name, (old, new, _) in MUTATIONS.items():
        assert stored.count(old) == 1, f"{name} must change one place"
        (folder / f"{name}.ipynb").write_text(stored.replace(old, new), encoding="utf-8")
    for name, (source, _) in FAULTY_CELLS.items():
        faulty = {**notebook, "cells": [new_code_cell(source, execution_count=1)]}
        (folder / f"{name}.ipynb").write_text(json.dumps(faulty), encoding="utf-8")
    return run_nbval(folder)


def run_nbval(folder: Path) -> dict[str, str]:
    """Run pytest on a folder with this project's settings and `conftest.py`."""
    report = folder / "report.xml"
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "conftest"]
    options = [f"--nbval-cell-timeout={SECONDS_PER_CELL}", "-n", "0", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *settings, *options, f"--junitxml={report}", folder]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    failures: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        messages = [str(failure.text) for failure in case.iter("failure")]
        name = case.attrib["classname"].removesuffix(".ipynb")
        failures[name] = failures.get(name, "") + "\n".join(messages)
    return failures


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_output_fails_unless_only_the_tolerance_is_used(
    name: str, failures: dict[str, str]
) -> None:
    passes = MUTATIONS[name][2]
    assert (failures[name] == "") == passes, failures[name]


@pytest.mark.parametrize("name", FAULTY_CELLS)
def test_a_faulty_cell_fails_and_says_why(name: str, failures: dict[str, str]) -> None:
    assert FAULTY_CELLS[name][1] in failures[name]
