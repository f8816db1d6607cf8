"""One chapter in one worker process, which dies with whoever started it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path

from mtlbook.book.runner.job import Failure, Job, Outcome, Progress

POLL_SECONDS = 0.1
"""How often a waiting launcher asks whether its chapter is still wanted."""

STOP_SECONDS = 5
"""How long a worker that was told to stop may take to end its kernel."""


def run_in_process(
    job: Job, report: Callable[[Progress], None], stopped: Callable[[], bool]
) -> Outcome:
    """Execute a job in a process of its own, and leave nothing of it behind.

    The two processes share one connection: the job goes out on it, progress and the outcome come
    back, and when either side dies, in whatever way, the other one sees it close.

    Arguments:
        job: the chapter.
        report: called with each step.
        stopped: asked all the time; once it says yes, the worker and its kernel are ended.

    Raises:
        CancelledError: if it was stopped.
    """
    workspace = Path(tempfile.mkdtemp(prefix="mtlbook-"))
    log = workspace / "worker.log"
    ours, theirs = Pipe()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mtlbook.book.runner.worker",
                str(theirs.fileno()),
                str(workspace),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C reaches the parent alone, which then stops its workers in good order.
            start_new_session=True,
        )
    theirs.close()
    step = Progress(job.section, 0, 0, 0)
    try:
        ours.send(job)
        while not stopped():
            if not ours.poll(POLL_SECONDS):
                continue
            message = ours.recv()
            if isinstance(message, Outcome):
                step = Progress(job.section, 0, 0, 0)  # its kernel has ended
                return message
            step = message
            report(step)
        raise CancelledError
    except (EOFError, ConnectionError):
        status = process.wait()
        return Outcome(
            section=job.section,
            seconds=0.0,
            notebook=job.notebook,
            failure=Failure(step.cell, "", f"the worker process {ending(status)}{_last(log)}"),
        )
    finally:
        ours.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kill_group(step.kernel)
        shutil.rmtree(workspace, ignore_errors=True)


def kill_group(leader: int) -> None:
    """End a kernel and what it started; 0 = there is none. A kernel leads its own group."""
    if leader:
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def ending(status: int | None) -> str:
    """How a process ended, in words, from its return code."""
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL: often the machine ran out of memory)"
    if status is not None and status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"ended by itself (exit status {status})"


def _last(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1]}" if said else ""
