"""What the tests of the package need."""

from collections.abc import Callable

import matplotlib as mpl
import pytest
import torch

from mtlbook.data import registry

# No window opens, whatever the machine has.
mpl.use("agg")


@pytest.fixture
def double():
    """New layers in float64, and drawn alike in every run."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def downloaded() -> Callable[[str], None]:
    """Skip the test where the files of a data set are not in the cache."""

    def require(name: str) -> None:
        if not registry.available(name):
            pytest.skip(f"{name} is not in {registry.cache_folder()}: mtlbook data fetch {name}")

    return require
