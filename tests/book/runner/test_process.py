"""A chapter in its own process: what its kernel sees, and what is left when either is killed."""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest

from mtlbook.book.runner.job import Job, Progress
from mtlbook.book.runner.process import ending, run_in_process
from tests.tiny_book import chapter


def job(folder: Path, *cells: str, **parameters: object) -> Job:
    path = chapter(folder, "3.1", *cells)
    return Job(
        section="3.1",
        notebook=path.read_text(),
        folder=str(path.parent),
        parameters=parameters,
        cell_timeout=60,
        fingerprint="",
        code="",
    )


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended or is about to; where nobody waits for it, a zombie remains."""
    try:
        process.wait(5)
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.TimeoutExpired:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Observer:
    """Collects progress, and acts once the given cell is reached."""

    def __init__(self, cell: int = -1, action: Callable[[Progress], object] = lambda _: None):
        self.steps: list[Progress] = []
        self.cell = cell
        self.action = action
        self.kernel: psutil.Process | None = None
        self.worker: psutil.Process | None = None
        self.workspace = Path()

    def __call__(self, step: Progress) -> None:
        if not self.steps:
            self.kernel = psutil.Process(step.kernel)
            self.worker = self.kernel.parent()
            assert self.worker is not None
            self.workspace = Path(self.worker.cmdline()[-1])
            assert self.workspace.is_dir()
        self.steps.append(step)
        if step.cell == self.cell:
            self.action(step)

    def assert_nothing_is_left(self) -> None:
        for process in (self.kernel, self.worker):
            assert process is not None
            assert ended(process)
        assert not self.workspace.exists()


SEEN = """\
import os, pathlib, sys
seen = {name: os.environ.get(name) for name in (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JPY_SESSION_NAME",
)}
print(seen)
print(pathlib.Path.cwd())
print(sys.executable)
print(pathlib.Path(os.environ["MTLBOOK_OUTPUT"]).parent)
print(seeds)
"""


def test_a_kernel_has_one_thread_its_own_folder_and_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("JPY_SESSION_NAME", "a surrounding notebook")
    # A kernel called python3 that a user installed for another Python:
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "x"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    observer = Observer()
    mine = job(tmp_path, SEEN, seeds=7)
    outcome = run_in_process(mine, observer, lambda: False)
    assert outcome.failure is None
    seen, cwd, python, workspace, seeds = (
        nbformat.reads(outcome.notebook, as_version=4).cells[3].outputs[0].text.splitlines()
    )
    assert seen == str(
        {**dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
         "JPY_SESSION_NAME": None}
    )  # fmt: skip
    assert Path(cwd).samefile(mine.folder)
    assert Path(python).samefile(sys.executable)
    assert Path(workspace) == observer.workspace
    assert seeds == "7"
    assert [(step.cell, step.cells) for step in observer.steps] == [(n, 4) for n in range(5)]
    assert [one["id"] for one in outcome.claims] == ["c3.1"]
    assert outcome.figures == {"3_1_effect.png": b"image"}
    assert 0 < outcome.seconds < 60
    assert 0 < outcome.effort.seconds < outcome.seconds + 1
    assert 10e6 < outcome.effort.memory < 1e9
    observer.assert_nothing_is_left()


def test_a_killed_worker_fails_its_own_chapter(tmp_path: Path) -> None:
    observer = Observer(2, lambda step: os.kill(psutil.Process(step.kernel).ppid(), signal.SIGKILL))
    outcome = run_in_process(job(tmp_path, "import time; time.sleep(300)"), observer, lambda: False)
    assert outcome.failure is not None
    assert outcome.failure.cell == 2
    assert "SIGKILL" in outcome.failure.error
    assert outcome.claims == []
    observer.assert_nothing_is_left()


def test_a_stopped_chapter_leaves_nothing(tmp_path: Path) -> None:
    observer = Observer()
    # A cell that holds the interpreter: a kernel that asks for its parent would not notice.
    mine = job(tmp_path, "_ = 3 ** 10**9")
    with pytest.raises(CancelledError):
        run_in_process(mine, observer, lambda: len(observer.steps) > 2)
    observer.assert_nothing_is_left()


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = replace(job(tmp_path), notebook="{")
    outcome = run_in_process(broken, lambda _: None, lambda: False)
    assert outcome.failure is not None
    assert "exit status 1" in outcome.failure.error
    assert "JSON" in outcome.failure.error


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, "exit status 3"),
        (0, "exit status 0"),
        (-signal.SIGKILL, "out of memory"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (None, "ended"),
    ],
)
def test_an_ending_is_told_in_words(status: int | None, words: str) -> None:
    assert words in ending(status)
