"""What the tests of downloaded data share."""

from collections.abc import Callable

import pytest

from mtlbook.data import registry


@pytest.fixture
def downloaded() -> Callable[[str], None]:
    """Skip the test where the files of a data set are not in the cache."""

    def require(name: str) -> None:
        if not registry.available(name):
            pytest.skip(f"{name} is not in {registry.cache_folder()}: mtlbook data fetch {name}")

    return require
