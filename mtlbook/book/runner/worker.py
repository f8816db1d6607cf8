"""The worker: executes one chapter by papermill. `python -m mtlbook.book.runner.worker` runs it."""

import json
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from mtlbook.book.files import write_atomically
from mtlbook.book.runner.clean import clean, text
from mtlbook.book.runner.job import Effort, Failure, Job, Outcome, Progress
from mtlbook.book.runner.process import ending, kill_group

START_SECONDS = 180
"""How long a kernel may take to start: many start at once on a busy machine."""

STOPPED = "Stopped"
"""The name of the error that stands in a cell which could not report one itself."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

FOREIGN = ("JPY_SESSION_NAME", "MPLBACKEND")
"""Set by a surrounding JupyterLab or shell; each would change what a chapter displays."""


def execute(job: Job, workspace: Path, report: Callable[[Progress], None]) -> Outcome:
    """Execute a chapter in an empty folder; all that it makes is in the outcome.

    papermill's own account of the cells is not trusted: it calls cells completed that a dead
    kernel never ran, and a notebook that left by `sys.exit(0)` a success.
    """
    output = workspace / "output"
    for name, content in job.ledger.items():
        write_atomically(output / name, content)
    started = time.perf_counter()
    notebook, reason, begun = _execute_by_papermill(job, workspace, output, report)
    seconds = time.perf_counter() - started
    effort = effort_of_children()

    if reason and begun:
        notebook.cells[begun[-1]].outputs.append(
            nbformat.v4.new_output("error", ename=STOPPED, evalue=reason, traceback=[reason])
        )
    failure = Failure(0, "", reason) if reason and not begun else find_failure(notebook)
    if failure:
        return Outcome(job.section, seconds, text(notebook), failure=failure)
    recorded = sorted((output / "claims").glob("*.json"))
    try:
        claims = [one for path in recorded for one in json.loads(path.read_bytes())]
    except ValueError as error:
        failure = Failure(0, "", f"it recorded claims that are not JSON: {error}")
        return Outcome(job.section, seconds, text(notebook), failure=failure)
    figures = {path.name: path.read_bytes() for path in sorted((output / "figures").glob("*.png"))}
    return Outcome(job.section, seconds, text(notebook), claims, figures, effort=effort)


def effort_of_children() -> Effort:
    """What the processes that this one started and saw end have taken: the kernel is the one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return Effort(used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


def find_failure(notebook: NotebookNode) -> Failure | None:
    """The first code cell that shows an error or was not run."""
    for number, cell in enumerate(filter(is_executable, notebook.cells), start=1):
        errors = [one for one in cell.outputs if one.output_type == "error"]
        if errors:
            name, said = errors[0].ename, errors[0].evalue
            return Failure(number, cell.source, said if name == STOPPED else f"{name}: {said}")
        if cell.execution_count is None:
            return Failure(number, cell.source, "the cell was not executed")
    return None


def _execute_by_papermill(
    job: Job, workspace: Path, output: Path, report: Callable[[Progress], None]
) -> tuple[NotebookNode, str, list[int]]:
    """Execute the notebook as far as it goes.

    Returns:
        the notebook, clean; why it stopped, where its cells cannot tell; and the places in it of
        the code cells that were begun.
    """
    source, executed = workspace / "source.ipynb", workspace / "executed.ipynb"
    source.write_text(job.notebook, encoding="utf-8")
    code = [c for c in nbformat.read(source, as_version=4).cells if is_executable(c)]
    cells = len(code) + bool(job.parameters)  # papermill injects a cell
    begun: list[int] = []
    reason = ""
    with _kernel(job, workspace, output) as kernel:

        def step(*, cell_index: int, **_: object) -> None:
            begun.append(cell_index)
            report(Progress(job.section, len(begun), cells, _process_id(kernel)))

        report(Progress(job.section, 0, cells, _process_id(kernel)))
        try:
            papermill.execute_notebook(
                source,
                executed,
                job.parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                start_timeout=START_SECONDS,
                execution_timeout=job.cell_timeout,
                km=kernel,
                record_timing=False,
                on_cell_execute=step,
            )
        except PapermillExecutionError:
            pass  # the error lies among the cell's outputs
        except CellTimeoutError:
            reason = (
                f"the cell ran longer than {job.cell_timeout} s "
                "(--cell-timeout SECONDS allows more)"
            )
        except (DeadKernelError, RuntimeError) as error:
            dead = not run_sync(kernel.is_alive)()
            reason = f"the kernel {ending(_status(kernel))}" if dead else str(error)
    notebook = nbformat.read(executed if executed.exists() else source, as_version=4)
    return clean(notebook), reason, begun


def is_executable(cell: NotebookNode) -> bool:
    """Whether a cell holds code: Jupyter runs no empty one."""
    return cell.cell_type == "code" and bool(cell.source.strip())


@contextmanager
def _kernel(job: Job, workspace: Path, output: Path) -> Iterator[AsyncKernelManager]:
    """A kernel of this very Python: one that a user installed under the same name is ignored.

    It speaks through sockets in the workspace: free TCP ports, found by many kernels that start
    at the same moment, would collide.
    """
    kernel = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc",
        connection_file=str(workspace / "kernel.json"),
    )
    folder = Path(job.folder)
    run_sync(kernel.start_kernel)(
        env=_environment(workspace, output), cwd=str(folder if folder.is_dir() else workspace)
    )
    try:
        yield kernel
    finally:
        run_sync(kernel.shutdown_kernel)(now=True)


def _environment(workspace: Path, output: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return inherited | {
        **dict.fromkeys(THREADS, "1"),
        "MTLBOOK_OUTPUT": str(output),
        # A reader's own start-up files would be part of the results.
        "IPYTHONDIR": str(workspace / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _process_id(kernel: AsyncKernelManager) -> int:
    return getattr(kernel.provisioner, "pid", None) or 0


def _status(kernel: AsyncKernelManager) -> int | None:
    return getattr(getattr(kernel.provisioner, "process", None), "returncode", None)


def main() -> None:
    """Receive a job on the connection that the launcher passed on, execute it, and answer."""
    connection = Connection(int(sys.argv[1]))
    workspace = Path(sys.argv[2])
    kernel = 0

    def report(progress: Progress) -> None:
        nonlocal kernel
        kernel = progress.kernel
        connection.send(progress)

    def end_with_launcher() -> None:
        with suppress(EOFError, OSError):
            connection.recv()  # nothing more is ever sent: it returns when the launcher is gone
        kill_group(kernel)
        while workspace.exists():  # the main thread may still write into it
            shutil.rmtree(workspace, ignore_errors=True)
        os._exit(1)

    job = connection.recv()
    watcher = threading.Thread(target=end_with_launcher, daemon=True)
    watcher.start()
    try:
        outcome = execute(job, workspace, report)
        kernel = 0
        connection.send(outcome)
    except Exception:
        if not connection.poll():  # the launcher is still there to be told
            raise
    watcher.join()  # not cut short by the end of this thread, it leaves nothing behind


if __name__ == "__main__":
    main()
