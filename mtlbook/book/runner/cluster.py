"""The same jobs on a Dask cluster: `mtlbook run --scheduler ADDRESS`."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

from rich.console import Console

from mtlbook.book.parameters import shown
from mtlbook.book.runner.imports import Package
from mtlbook.book.runner.job import Failure, Job, Outcome, Progress
from mtlbook.book.runner.process import run_in_process
from mtlbook.errors import UsageError

CONNECT_SECONDS = 4


@contextmanager
def cluster(
    address: str, report: Callable[[Progress], None]
) -> Iterator[Callable[[Job], Future[Outcome]]]:
    """A function that submits a job to the cluster; no shared file system is needed.

    When the block is left, whatever still runs on the cluster is ended.

    Raises:
        UsageError: if no scheduler answers at the address any more.
    """
    client = _connect(address)
    if not client.nthreads():
        Console(stderr=True).print("The scheduler has no workers yet: the chapters wait for one.")
    topic = f"mtlbook-{uuid.uuid4()}"
    client.subscribe_topic(topic, lambda event: report(Progress(*event[1])))
    executor: Executor = client.get_executor(pure=False)
    try:
        yield lambda job: executor.submit(execute_on_cluster, job, topic)
    finally:
        client.close()


def check_scheduler(address: str) -> None:
    """Refuse an address at which no Dask scheduler answers; anything else may listen there.

    Raises:
        UsageError: if Dask is not installed or the scheduler does not answer in time.
    """
    import asyncio  # these, too, are not for every command
    import logging

    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "--scheduler needs Dask: pip install 'mtlbook[cluster]', here and on the cluster"
        ) from error

    async def ask() -> str:
        security = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, connection_args=security) as scheduler:
            identity: Any = await scheduler.identity()
            return identity["type"]

    # It says at length what a nonsense address makes it do.
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        # A client of Dask's would go on waiting for a web server that waits for a request.
        answer = asyncio.run(asyncio.wait_for(ask(), CONNECT_SECONDS))
    except Exception as error:  # the bytes of another protocol are misread in any way
        raise _no_scheduler(address) from error
    finally:
        log.setLevel(level)
    if answer != "Scheduler":
        raise _no_scheduler(address)


def _no_scheduler(address: str) -> UsageError:
    return UsageError(
        f"no Dask scheduler answers at {shown(address)} within {CONNECT_SECONDS} s; pass the "
        "address that `dask scheduler` prints, such as tcp://10.0.0.1:8786"
    )


def _connect(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise _no_scheduler(address) from error


def execute_on_cluster(job: Job, topic: str) -> Outcome:
    """What a Dask worker does with a job: a process of its own, as on this machine."""
    from distributed import get_worker

    if Package().hash(job.section, job.notebook) != job.code:
        return Outcome(
            section=job.section,
            seconds=0.0,
            notebook=job.notebook,
            failure=Failure(0, "", "the Dask worker has another mtlbook: install the same there"),
        )
    worker = get_worker()
    key = worker.get_current_task()

    def report(progress: Progress) -> None:
        worker.log_event(topic, astuple(progress))

    def stopped() -> bool:
        # Dask lets a running task finish when nobody wants it any more, or its client has died.
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return run_in_process(job, report, stopped)
