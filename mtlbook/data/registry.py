"""The downloaded data sets: what there is, where it lies, and how it is fetched and verified.

A set's files lie in `<cache>/<set>/<file>`, where the cache is the folder that the environment
variable `MTLBOOK_DATA` names, or else the user's own cache folder. A file appears there only when
it is whole and its SHA-256 is the registry's; a cache that already holds the files may be
read-only.
"""

import logging
import os
import sys
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from mtlbook.errors import UsageError

with warnings.catch_warnings():
    # tqdm, which pooch imports, warns in a notebook's kernel that has no widgets.
    warnings.filterwarnings("ignore", "IProgress not found")
    import pooch


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set: its name, where it comes from, its SHA-256 and its size."""

    file: str
    url: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class DataSet:
    """One data set: its files and the terms under which it may be used.

    Attributes:
        terms: `open`, `nc` (not for commercial use) or `unclear` (no explicit licence).
        note: how the files differ from the canonical ones, if they do.
        origin: where the set was first published.
    """

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    licence: str
    terms: str
    note: str
    origin: str

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(remote.bytes for remote in self.files)


@cache
def registry() -> dict[str, DataSet]:
    """All data sets that can be downloaded, by name."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {
        name: DataSet(
            name=name,
            files=tuple(RemoteFile(**remote) for remote in entry.pop("files")),
            **entry,
        )
        for name, entry in tomllib.loads(text).items()
    }


def cache_folder() -> Path:
    """The folder of all downloads: `MTLBOOK_DATA`, or the user's cache folder."""
    return Path(os.environ.get("MTLBOOK_DATA") or pooch.os_cache("mtlbook")).expanduser()


def data_set(name: str) -> DataSet:
    """The registry's entry of a data set.

    Raises:
        UsageError: for an unknown name, with the names that there are.
    """
    if name not in registry():
        raise UsageError(
            f"There is no data set {name!r} in the registry: choose one of {', '.join(registry())}."
        )
    return registry()[name]


def path(name: str, file: str | None = None) -> Path:
    """Where a data set's folder, or one of its files, lies or would lie once fetched."""
    files = {remote.file for remote in data_set(name).files}
    if file is None:
        return cache_folder() / name
    if file not in files:
        raise UsageError(
            f"The data set {name!r} has no file {file!r}: choose one of {', '.join(sorted(files))}."
        )
    return cache_folder() / name / file


def available(name: str) -> bool:
    """Whether all files of a data set are in the cache, in their full size."""
    return all(
        path(name, remote.file).is_file() and path(name, remote.file).stat().st_size == remote.bytes
        for remote in data_set(name).files
    )


def verify(name: str) -> list[str]:
    """What is wrong with a data set's files in the cache, a sentence a file; empty = nothing."""
    found = ((remote, path(name, remote.file)) for remote in data_set(name).files)
    problems = ((target, _problem(remote, target)) for remote, target in found)
    return [f"{target} {problem}." for target, problem in problems if problem]


def fetch(name: str) -> Path:
    """The folder of a data set, after what is missing or corrupted has been downloaded.

    Files that are there are verified, not downloaded again. A progress bar is drawn on a terminal
    only, and only where tqdm is installed.

    Raises:
        UsageError: for an unknown data set; where there is no network, the server refuses, what
            arrives is not the file, or the cache can't be written. No partial file is left.
    """
    for remote in data_set(name).files:
        target = path(name, remote.file)
        problem = _problem(remote, target)
        if problem:
            _download(name, remote, target, problem)
    return path(name)


def _problem(remote: RemoteFile, target: Path) -> str | None:
    """What is wrong with a cached file: the end of a sentence that begins with its path."""
    if not target.is_file():
        return "is missing"
    size = target.stat().st_size
    if size != remote.bytes:
        return f"is corrupted: it has {size} bytes instead of {remote.bytes}"
    if pooch.file_hash(str(target)) != remote.sha256:
        return "is corrupted: its SHA-256 is not the registry's"
    return None


def _download(name: str, remote: RemoteFile, target: Path, problem: str) -> None:
    # It comes with pooch and is needed for a download alone.
    from requests.exceptions import HTTPError, RequestException

    host = urlsplit(remote.url).netloc
    cause = f"{target} {problem}, and "
    remedy = (
        f"run `mtlbook data fetch {name}` when on line, or put the file from {remote.url} at "
        f"{target}"
    )
    try:
        with _quiet_pooch():
            # pooch writes to a temporary file beside the target and moves it there when its
            # hash is right.
            pooch.retrieve(
                remote.url,
                known_hash=f"sha256:{remote.sha256}",
                fname=target.name,
                path=target.parent,
                progressbar=sys.stderr.isatty() and find_spec("tqdm") is not None,
            )
    except HTTPError as error:
        answer, _, _ = str(error).partition(" for url")
        raise UsageError(f"{cause}{host} answered {answer!r}: {remedy}.") from error
    except RequestException as error:
        raise UsageError(f"{cause}the connection to {host} failed: {remedy}.") from error
    except OSError as error:
        # pooch wraps a refusal in a PermissionError that has a text of its own and no strerror.
        reason = error.strerror or "Permission denied"
        raise UsageError(
            f"{cause}the cache {cache_folder()} can't be written ({reason}): set MTLBOOK_DATA to a "
            f"folder that can, or {remedy}."
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{cause}what {host} sent is not the file either (its SHA-256 differs), so that it "
            f"was not kept: {remedy}."
        ) from error


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Without pooch's own messages about each download: the errors here say what matters."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
