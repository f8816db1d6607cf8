"""What every test needs, those of the package and those of the notebooks."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.nbval_by_tokens"]

# Set before anything imports PyTorch, and inherited by kernels and subprocesses. The book's
# matrices are small: more than one thread makes them slower, and tests run beside each other.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
# Kernels and subprocesses test this checkout, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Progress bars are for JupyterLab, even if it is a JupyterLab that started the tests.
os.environ.pop("JPY_SESSION_NAME", None)

# The same examples in each run, and no deadline on a machine that is busy with other tests.
settings.register_profile("mtlbook", derandomize=True, deadline=None)
settings.load_profile("mtlbook")


def pytest_configure(config: pytest.Config) -> None:
    """Let notebooks and tests write into a temporary folder, never into the checkout."""
    folder = tempfile.TemporaryDirectory(prefix="mtlbook-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["MTLBOOK_OUTPUT"] = str(Path(folder.name) / "output")
    os.environ["IPYTHONDIR"] = str(Path(folder.name) / "ipython")
