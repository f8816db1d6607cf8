import subprocess
import sys

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtlbook.book.runner.job import Failure
from mtlbook.book.runner.worker import find_failure


def _executed(*counts: int | None) -> NotebookNode:
    cells = [new_code_cell(f"x = {n}", execution_count=n) for n in counts]
    return new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell(""), *cells])


def test_a_notebook_whose_every_cell_ran_has_no_failure() -> None:
    assert find_failure(_executed(1, 2, 3)) is None


def test_a_cell_that_was_not_run_is_a_failure_whatever_papermill_says() -> None:
    notebook = _executed(1, None, 3)
    notebook.cells[3].metadata["papermill"] = {"status": "completed"}
    assert find_failure(notebook) == Failure(2, "x = None", "the cell was not executed")


def test_an_error_that_a_tag_allows_is_a_failure_all_the_same() -> None:
    notebook = _executed(1, 2)
    notebook.cells[2].metadata["tags"] = ["raises-exception"]
    notebook.cells[2].outputs = [
        new_output("error", ename="KeyError", evalue="'a'", traceback=["..."])
    ]
    assert find_failure(notebook) == Failure(1, "x = 1", "KeyError: 'a'")


def test_a_worker_compiles_no_grammar_of_addresses() -> None:
    """jsonschema would, for most of a second in each worker."""
    script = "import sys, mtlbook.book.runner.worker\nprint('lark' in sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
