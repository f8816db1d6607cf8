"""A pytest plugin: nbval with the book's comparison of outputs, failing at once on a dead kernel.

nbval itself compares whole texts, so that the last digit of one number on another processor fails
a cell, and it waits for the reply of a kernel that has died until the cell's time is up.
"""

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

from tests.notebook_comparison import differences

SECONDS_BETWEEN_SIGNS_OF_LIFE = 1.0


class WatchedKernel(RunningKernel):
    """A kernel whose death ends the wait for its reply."""

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Wait for the reply to a message; `queue.Empty` says that the time is up."""
        end = float("inf") if timeout is None else monotonic() + timeout
        while True:
            try:
                return super().await_reply(
                    msg_id, timeout=min(SECONDS_BETWEEN_SIGNS_OF_LIFE, max(0, end - monotonic()))
                )
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died while it ran this cell") from None
                if monotonic() >= end:
                    raise


class NotebookCell(IPyNbCell):
    """A code cell whose outputs must equal the stored ones up to the tolerance of numbers."""

    def compare_outputs(
        self,
        test: Iterable[Mapping[str, Any]],
        ref: Iterable[Mapping[str, Any]],
        skip_compare: Iterable[str] | None = None,
    ) -> bool:
        """Whether a new run's outputs equal those stored; nbval shows the differences."""
        self.comparison_traceback = differences(ref, test)
        return not self.comparison_traceback


class NotebookFile(IPyNbFile):
    """A notebook that runs in a watched kernel of the environment that runs the tests."""

    def setup(self) -> None:
        """Start the kernel in the notebook's folder."""
        self.kernel = WatchedKernel(
            CURRENT_ENV_KERNEL_NAME,
            cwd=str(self.path.parent),
            startup_timeout=self.config.option.nbval_kernel_startup_timeout,
        )

    def collect(self) -> Generator[NotebookCell]:
        """The notebook's code cells, as nbval finds them."""
        for cell in super().collect():
            yield NotebookCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Put the book's notebook in the place of nbval's."""
    nodes = yield
    return [
        NotebookFile.from_parent(parent, path=file_path) if isinstance(node, IPyNbFile) else node
        for node in nodes
    ]
