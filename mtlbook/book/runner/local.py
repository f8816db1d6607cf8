"""Jobs on this machine: so many worker processes at a time."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from mtlbook.book.runner.job import Job, Outcome, Progress
from mtlbook.book.runner.process import run_in_process


@contextmanager
def local(
    jobs: int, report: Callable[[Progress], None]
) -> Iterator[Callable[[Job], Future[Outcome]]]:
    """A function that submits a job to one of `jobs` workers.

    When the block is left, whatever still runs is ended. The threads only wait for processes.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(jobs) as executor:
        try:
            yield lambda job: executor.submit(run_in_process, job, report, stopped.is_set)
        finally:
            stopped.set()
            executor.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
