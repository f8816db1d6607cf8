import os
import sys
from contextlib import closing
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

import mtlbook
from mtlbook.book import progress as module
from mtlbook.book.experiments import mlp, search, train, units
from mtlbook.book.experiments.paths import regularisation_paths
from mtlbook.book.page import Page
from mtlbook.book.progress import Cell, each, progress
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.non_neural.block_sparse import RowsInL2
from mtlbook.tasks import Task
from mtlbook.training import progress as training_progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def cell(clock, lines):
    made = Cell(lines.append, clock)
    made.begin()
    return made


def test_a_training_says_how_far_it_is_and_what_time_is_left(cell, clock, lines):
    bar = cell.open(200, "section 3.1: training")
    clock.now += 2
    bar.update(50)
    assert lines == ["section 3.1: training 1 · 25 % of it · about 6 s left"]


def test_later_trainings_of_a_cell_are_counted(cell, clock, lines):
    cell.open(10, "section 3.1: search").close()
    for _ in range(3):
        bar = cell.open(10, "section 3.1: training")
        clock.now += 1
        bar.update(5)
        bar.close()
    assert lines[-1] == "section 3.1: training 3 · 50 % of it · about 1 s left"


def test_trainings_within_a_loop_share_its_line_and_never_go_back(cell, clock, lines):
    outer = cell.open(4, "overlaps", counted=True)
    for _ in range(4):
        for _ in range(2):
            inner = cell.open(10, "section 5.1: training")
            for _ in range(2):
                clock.now += 1
                inner.update(5)
            inner.close()
        outer.update()
    shares = [int(line.split(" · ")[1].removesuffix(" %")) for line in lines]
    assert shares == sorted(shares)
    assert lines[-1].startswith("overlaps 4 of 4 · 100 %")
    # From the second step on it is known that a step has two trainings.
    assert "overlaps 2 of 4 · 31 % · about 11 s left" in lines
    assert "overlaps 2 of 4 · 38 % · about 10 s left" in lines


def test_counted_loops_within_each_other_are_both_named(cell, clock, lines):
    outer = cell.open(2, "data sets", counted=True)
    outer.update()
    inner = cell.open(4, "strengths", counted=True)
    clock.now += 1
    inner.update()
    assert lines == ["data sets 2 of 2, strengths 2 of 4 · 62 % · about 1 s left"]


def test_what_takes_no_time_is_not_shown_and_much_is_not_shown_often(cell, clock, lines):
    bar = cell.open(1000, "section 3.1: training")
    clock.now += 0.4
    bar.update()
    assert lines == []
    for _ in range(100):
        clock.now += 0.01
        bar.update()
    assert 2 <= len(lines) <= 5


def test_what_broke_off_in_an_earlier_cell_is_forgotten(cell, clock, lines):
    left_open = cell.open(4, "overlaps", counted=True)
    cell.begin()
    bar = cell.open(10, "section 3.1: training")
    clock.now += 1
    left_open.update()
    left_open.close()
    bar.update()
    assert {line.split(" · ")[0] for line in lines} == {"section 3.1: training 1"}


def test_closing_a_loop_closes_what_is_open_within(cell, clock, lines):
    outer = cell.open(4, "overlaps", counted=True)
    cell.open(10, "section 3.1: training")
    outer.close()
    bar = cell.open(10, "section 3.1: training")
    clock.now += 1
    bar.update()
    assert lines[-1].startswith("section 3.1: training 1 ·")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (8.4, "8 s"), (43.0, "45 s"), (89.0, "90 s"), (100.0, "2 min")],
)
def test_a_time_is_as_exact_as_it_is_known(seconds, text):
    assert module._duration(seconds) == text


def test_elsewhere_a_terminal_has_a_bar_and_everything_else_nothing(monkeypatch, capfd):
    with closing(progress(3, "steps")) as bar:
        bar.update(3)
    assert list(each(iter("abc"), "letters")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with closing(progress(3, "steps")) as bar:
        bar.update(3)
    assert "steps" in capfd.readouterr().err


@pytest.fixture
def shared_line(monkeypatch, cell, lines):
    """What the trainings and loops of this test's page show."""
    monkeypatch.setattr(module, "_cell", cell)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_UPDATES", -1)
    monkeypatch.setattr(training_progress, "_make", training_progress._make)
    return lines


def test_a_page_shows_the_trainings_of_a_search_as_parts_of_it(shared_line):
    page = Page("3.1", {"seeds": 2, "first_seed": 5, "device": "cpu", "dataset": "a"})
    tasks = [Task.regression("sum")]
    x = torch.linspace(-1, 1, 40, dtype=torch.float64).view(20, 2)
    data = MultiTaskData.multi_label(tasks, x, {"sum": x.sum(1)})
    settings = {"split": Holdout(train=10, validation=5, test=5), "steps": 20}
    for overlap in page.progress([0.0, 1.0], "overlaps"):
        assert overlap in (0.0, 1.0)
    train(page, mlp, data, width=2, **settings)
    search(page, mlp, data, units(2, 3), **settings)
    search(page, mlp, data, units(2, 3), **settings)
    kinds = list(dict.fromkeys(line.split(" · ")[0] for line in shared_line))
    assert kinds == [
        "overlaps 2 of 2", "section 3.1: training 1", "section 3.1: search 1",
        "section 3.1: search 2",
    ]  # fmt: skip
    assert "section 3.1: search 1 · 50 % of it" in shared_line


def test_a_regularisation_path_says_how_far_it_is(shared_line):
    inputs = np.random.default_rng(0).normal(size=(2, 2, 20, 5))
    targets = inputs[..., 0]
    regularisation_paths(inputs, targets, [RowsInL2(3.0), RowsInL2(0.1)])
    assert shared_line == [
        "regularisation path 1 · 50 % of it", "regularisation path 1 · 100 % of it",
    ]  # fmt: skip


# A real kernel ------------------------------------------------------------------------------------

OPENING = """\
from time import sleep
from mtlbook.book import progress
progress.SECONDS_BEFORE_SHOWN = progress.SECONDS_BETWEEN_UPDATES = 0
progress.show_progress()
def work(label="training", fails=False):
    bar = progress.progress(4, label)
    for _ in range(4):
        bar.update()
    if fails:
        raise RuntimeError("broken")
    bar.close()
"""
PICTURE = "display({'image/png': 'AAAA', 'text/plain': 'a curve'}, raw=True)"


class Recording(NotebookClient):
    """A client that keeps what the kernel sends."""

    def process_message(self, msg, cell, cell_index):
        self.messages = [*getattr(self, "messages", []), msg]
        return super().process_message(msg, cell, cell_index)


@pytest.fixture
def executed(monkeypatch):
    """The outputs of cells that were run behind the opening, and all messages of the kernel."""
    monkeypatch.setenv("PYTHONPATH", str(Path(mtlbook.__file__).parents[1]))

    def execute(*sources: str, served: bool = True):
        if served:
            monkeypatch.setenv("JPY_SESSION_NAME", "page.ipynb")
        else:
            monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
        notebook = new_notebook(cells=[new_code_cell(one) for one in (OPENING, *sources)])
        client = Recording(notebook, kernel_name="python3", allow_errors=True)
        client.execute(env=dict(os.environ))
        nbformat.validate(notebook)
        assert notebook.cells[0].outputs == []
        return [cell.outputs for cell in notebook.cells[1:]], client.messages

    return execute


def shown(outputs):
    """What a cell's outputs show, streams as a list of (name, text)."""
    kinds = {"stream": "text", "error": "evalue"}
    return [
        one[kinds[one.output_type]] if one.output_type in kinds else one.data["text/plain"]
        for one in outputs
    ]


def test_in_jupyterlab_a_line_is_shown_and_leaves_nothing_behind(executed):
    cells, messages = executed(
        "work()",
        "work()\nprint('result')",
        f"print('before')\n{PICTURE}\nwork()\nwork()\nprint('after')\nwork()\n{PICTURE}\nwork()\n6*7",
        "work(); import sys; print('warning', file=sys.stderr); print('all'); work()",
        "for one in progress.each([1, 2], 'loop'): work()",
        "_ = display('old', display_id='mine'); work(); _.update('new')",
        "work(fails=True)",
        "print('partly')\nwork(fails=True)",
        "from IPython.display import clear_output\nprint('gone')\nwork()\nclear_output()\nwork()",
        "get_ipython().run_cell('work(); print(1)'); work()",
        "work(); raise SystemExit",
        "%%capture out\nprint('captured')\nwork()",
        "print(out.stdout, len(out.outputs))",
    )
    assert [shown(outputs) for outputs in cells[:-3]] == [
        [],
        ["result\n"],
        ["before\n", "a curve", "after\n", "a curve", "42"],
        ["warning\n", "all\n"],
        [],
        ["'new'"],
        ["broken"],
        ["partly\n", "broken"],
        [],
        ["1\n"],
    ]
    assert [shown(outputs) for outputs in cells[-2:]] == [[], ["captured\n 0\n"]]
    said = [
        message["content"]["data"]["text/plain"]
        for message in messages
        if message["msg_type"] in ("display_data", "update_display_data")
        and str(message["content"]["transient"].get("display_id", "")).startswith("mtlbook")
    ]
    assert "training 1 · 50 % of it" in said
    assert "loop 2 of 2 · 75 %" in said


def test_where_outputs_are_stored_nothing_is_sent(executed):
    cells, messages = executed("work()", f"work()\n{PICTURE}", served=False)
    assert [shown(outputs) for outputs in cells] == [[], ["a curve"]]
    kinds = [message["msg_type"] for message in messages]
    assert kinds.count("display_data") == 1
    assert not {"clear_output", "stream", "update_display_data"} & set(kinds)
