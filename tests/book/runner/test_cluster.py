"""The jobs on a real Dask cluster: a scheduler and two workers, processes of their own."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from mtlbook.book.runner.cluster import check_scheduler, cluster
from mtlbook.book.runner.imports import Package
from mtlbook.book.runner.job import Job, Progress
from mtlbook.errors import UsageError
from tests.tiny_book import Cli, chapter, claims, files

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    folder = tmp_path_factory.mktemp("cluster")
    found = folder / "scheduler.json"
    common = ["--scheduler-file", str(found), "--no-dashboard"]
    commands = [
        ["distributed.cli.dask_scheduler", *common, "--host", "127.0.0.1", "--port", "0"],
        *[["distributed.cli.dask_worker", *common, "--nthreads", "1"]] * 2,
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | {"DASK_TEMPORARY_DIRECTORY": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for command in commands
    ]
    try:
        from distributed import Client

        with Client(scheduler_file=_written(found), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            yield json.loads(found.read_text())["address"]
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _written(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "the scheduler did not start"
        time.sleep(0.1)
    return str(path)


def test_a_run_on_the_cluster_gives_what_a_run_here_gives(
    scheduler: str, clone: Path, mtlbook: Cli
) -> None:
    chapter(clone / "notebooks", "3.1", "print(seeds)")
    chapter(clone / "notebooks", "3.2", "raise ValueError('bad')")
    assert mtlbook("run", "--scheduler", scheduler, "--seeds", "3", "--output", "far") == 1
    assert "3.1 Title of 3.1: started" in mtlbook.out
    assert "3.2 Title of 3.2 failed in code cell 3: ValueError: bad" in mtlbook.err
    assert claims(clone / "far/claims.json")[0]["seeds"] == 3
    assert mtlbook("run", "3.1", "--seeds", "3", "--output", "near") == 0
    near = files(clone / "near")
    assert files(clone / "far") == near | {"failed/3_2_title.ipynb"}
    for name in near - {"runs/3.1.json"}:  # which holds the seconds
        assert (clone / "far" / name).read_bytes() == (clone / "near" / name).read_bytes()


def _job(folder: Path, *cells: str, code: str | None = None) -> Job:
    notebook = chapter(folder, "3.1", *cells).read_text()
    code = code or Package().hash("3.1", notebook)
    return Job("3.1", notebook, "a folder that is only here", {}, 600, "", code)


def test_what_runs_on_the_cluster_ends_with_its_run(scheduler: str, tmp_path: Path) -> None:
    steps: SimpleQueue[Progress] = SimpleQueue()
    with cluster(scheduler, steps.put) as submit:
        submit(_job(tmp_path, "import time; time.sleep(300)"))
        while (step := steps.get(timeout=60)).cell < 2:
            pass
        kernel = psutil.Process(step.kernel)
        assert kernel.is_running()
    _, alive = psutil.wait_procs([kernel], timeout=20)
    assert not alive


def test_a_worker_with_another_package_refuses(scheduler: str, tmp_path: Path) -> None:
    with cluster(scheduler, lambda _: None) as submit:
        outcome = submit(_job(tmp_path, code="another")).result(timeout=60)
    assert outcome.failure is not None
    assert "another mtlbook" in outcome.failure.error


def test_no_kernel_outlives_a_killed_worker(scheduler: str, tmp_path: Path) -> None:
    steps: SimpleQueue[Progress] = SimpleQueue()
    # It holds the interpreter: the kernel's own look for its parent would never come about.
    with cluster(scheduler, steps.put) as submit:
        submit(_job(tmp_path, "_ = 3 ** 10**9"))
        while (step := steps.get(timeout=60)).cell < 2:
            pass
        kernel = psutil.Process(step.kernel)
        dask = next(one for one in kernel.parents() if "mtlbook" not in " ".join(one.cmdline()))
        dask.kill()
        _, alive = psutil.wait_procs([kernel], timeout=20)
    assert not alive


def test_a_scheduler_answers(scheduler: str) -> None:
    check_scheduler(scheduler)


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "foo://bar", "tcp://", "tcp://host:port", "tcp://[::1", "http://127.0.0.1:9"],
)
def test_a_nonsense_address_is_told_in_one_line(
    address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no Dask scheduler answers at '"):
        check_scheduler(address)
    assert not caplog.records
    assert capfd.readouterr().err == ""


class Silent(socketserver.BaseRequestHandler):
    """A web server, until it gets a request: it says nothing."""

    def handle(self) -> None:
        self.request.recv(1_000)


class Talkative(socketserver.BaseRequestHandler):
    """One that greets, as mail servers do: its text is misread as lengths."""

    def handle(self) -> None:
        self.request.sendall(b"220 mail.example.org ESMTP at your service\r\n" * 10)
        self.request.recv(1_000)


@pytest.mark.parametrize("handler", [Silent, Talkative])
@pytest.mark.parametrize("protocol", ["tcp", "ws"])
def test_what_else_listens_is_told_within_seconds(
    protocol: str,
    handler: type[socketserver.BaseRequestHandler],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(UsageError, match="no Dask scheduler"):
            check_scheduler(f"{protocol}://127.0.0.1:{server.server_address[1]}")
        assert time.monotonic() - began < 8
        server.shutdown()
    assert capfd.readouterr().err == ""
