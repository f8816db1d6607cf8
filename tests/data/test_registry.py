"""Downloads from a server in this process: what arrives whole is kept, all else is an error."""

import hashlib
import re
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from mtlbook.data import registry
from mtlbook.data.registry import DataSet, RemoteFile
from mtlbook.errors import UsageError

CONTENT = {"first.bin": b"first" * 1000, "second.bin": b"second" * 2000}


class Handler(BaseHTTPRequestHandler):
    """Serves `CONTENT`; under `/cut/` only half of what it announces."""

    def do_GET(self):
        folder, name = self.path.rsplit("/", 1)
        if folder == "/refused":
            self.send_error(403)
            return
        if name not in CONTENT:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT[name])))
        self.end_headers()
        whole = CONTENT[name]
        self.wfile.write(whole[: len(whole) // 2] if folder == "/cut" else whole)

    def log_message(self, format, *args):  # noqa: A002 - the base class's own name
        pass


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTLBOOK_DATA", str(folder))
    # A proxy of the environment must not see requests to this process.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> str:
    """An address at which no server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        return f"127.0.0.1:{closed.server_port}"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a data set `toy` with the files of `CONTENT` at an address into the registry."""

    def put(address: str, content: dict[str, bytes] = CONTENT) -> None:
        files = tuple(
            RemoteFile(
                name, f"http://{address}/{name}", hashlib.sha256(data).hexdigest(), len(data)
            )
            for name, data in content.items()
        )
        toy = DataSet("toy", "Toy", files, "MIT", "open", "", "http://origin")
        monkeypatch.setattr(registry, "registry", lambda: {"toy": toy})

    return put


def fill(cache: Path, content: dict[str, bytes] = CONTENT) -> None:
    (cache / "toy").mkdir(parents=True)
    for name, data in content.items():
        (cache / "toy" / name).write_bytes(data)


def held(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.rglob("*") if file.is_file()}


def test_fetch_downloads_what_is_missing_and_says_nothing(
    cache: Path,
    server: str,
    offer: Callable,
    capfd: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
):
    offer(server)
    assert not registry.available("toy")
    assert registry.verify("toy") == [
        f"{cache}/toy/first.bin is missing.",
        f"{cache}/toy/second.bin is missing.",
    ]
    # pooch's logger stands apart from the root that pytest listens to.
    pooch.get_logger().addHandler(caplog.handler)
    try:
        assert registry.fetch("toy") == cache / "toy"
    finally:
        pooch.get_logger().removeHandler(caplog.handler)
    assert held(cache) == CONTENT
    assert registry.available("toy")
    assert registry.verify("toy") == []
    # No progress bar, since the tests' stderr is no terminal, and none of pooch's messages.
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


def test_files_that_are_there_need_neither_a_network_nor_a_cache_that_can_be_written(
    cache: Path, nobody: str, offer: Callable
):
    offer(nobody)
    fill(cache)
    (cache / "toy").chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = {file: file.stat().st_mtime_ns for file in (cache / "toy").iterdir()}
    try:
        assert registry.fetch("toy") == cache / "toy"
        assert {file: file.stat().st_mtime_ns for file in (cache / "toy").iterdir()} == before
    finally:
        (cache / "toy").chmod(stat.S_IRWXU)


def test_only_what_is_missing_is_downloaded(cache: Path, nobody: str, server: str, offer: Callable):
    offer(server)
    fill(cache, {"first.bin": CONTENT["first.bin"]})
    before = (cache / "toy" / "first.bin").stat().st_mtime_ns
    registry.fetch("toy")
    assert held(cache) == CONTENT
    assert (cache / "toy" / "first.bin").stat().st_mtime_ns == before


def test_no_network_names_the_file_the_host_and_the_remedy(
    cache: Path, nobody: str, offer: Callable
):
    offer(nobody)
    with pytest.raises(UsageError) as error:
        registry.fetch("toy")
    message = str(error.value)
    assert f"{cache}/toy/first.bin is missing" in message
    assert f"the connection to {nobody} failed" in message
    assert "`mtlbook data fetch toy` when on line" in message
    assert f"put the file from http://{nobody}/first.bin at {cache}/toy/first.bin" in message
    assert "\n" not in message
    assert held(cache) == {}


@pytest.mark.parametrize(
    ("folder", "answer"), [("/refused", "403 Client Error"), ("/nowhere/x", "404 Client Error")]
)
def test_a_server_that_refuses_is_named_with_its_answer(
    cache: Path, server: str, offer: Callable, folder: str, answer: str
):
    missing = {"absent.bin": b""} if "nowhere" in folder else CONTENT
    offer(server + folder, missing)
    with pytest.raises(UsageError, match=f"{server} answered '{answer}"):
        registry.fetch("toy")
    assert held(cache) == {}


def test_a_connection_that_breaks_leaves_no_partial_file(cache: Path, server: str, offer: Callable):
    offer(f"{server}/cut")
    with pytest.raises(UsageError, match=f"the connection to {server} failed"):
        registry.fetch("toy")
    assert held(cache) == {}


def test_a_corrupted_download_is_not_kept(cache: Path, server: str, offer: Callable):
    offer(server, {"first.bin": b"what the registry knows"})
    with pytest.raises(UsageError) as error:
        registry.fetch("toy")
    message = str(error.value)
    assert f"what {server} sent is not the file" in message
    assert "`mtlbook data fetch toy`" in message
    assert f"{cache}/toy/first.bin" in message
    assert held(cache) == {}


@pytest.mark.parametrize(
    ("corrupted", "problem"),
    [
        (b"short", "it has 5 bytes instead of 5000"),
        (b"flips" * 1000, "its SHA-256 is not the registry's"),
    ],
)
def test_a_corrupted_file_in_the_cache_is_found_and_replaced(
    cache: Path, nobody: str, server: str, offer: Callable, corrupted: bytes, problem: str
):
    offer(nobody)
    fill(cache, {**CONTENT, "first.bin": corrupted})
    assert registry.verify("toy") == [f"{cache}/toy/first.bin is corrupted: {problem}."]
    assert registry.available("toy") == (len(corrupted) == 5000)
    with pytest.raises(UsageError, match=re.escape(f"first.bin is corrupted: {problem}, and the")):
        registry.fetch("toy")
    # What was there stays until something better has arrived.
    assert held(cache)["first.bin"] == corrupted
    offer(server)
    registry.fetch("toy")
    assert held(cache) == CONTENT


def test_a_cache_that_cannot_be_written_is_an_error(cache: Path, server: str, offer: Callable):
    cache.write_bytes(b"a file where the folder should be")
    offer(server)
    with pytest.raises(
        UsageError, match=r"can't be written .*set MTLBOOK_DATA to a folder that can"
    ):
        registry.fetch("toy")


def test_a_cache_without_permission_is_an_error(
    cache: Path, server: str, offer: Callable, monkeypatch: pytest.MonkeyPatch
):
    # A real folder without permission would not stop a test run by root.
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    offer(server)
    monkeypatch.setattr("os.makedirs", refuse)
    with pytest.raises(UsageError, match=r"can't be written \(Permission denied\)"):
        registry.fetch("toy")


def test_an_interrupted_download_leaves_no_partial_file(
    cache: Path, server: str, offer: Callable, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(self, url, output_file, pooch):
        Path(output_file).write_bytes(b"half")
        raise KeyboardInterrupt

    offer(server)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        registry.fetch("toy")
    assert held(cache) == {}


@pytest.mark.parametrize(
    "ask", [registry.fetch, registry.path, registry.verify, registry.available, registry.data_set]
)
def test_an_unknown_set_is_refused_with_the_possible_ones(ask: Callable):
    with pytest.raises(UsageError, match=r"no data set 'imagenet'.*school, mnist, usps, mulan_mtr"):
        ask("imagenet")


def test_an_unknown_file_is_refused_with_the_possible_ones():
    with pytest.raises(UsageError, match=r"no file 'x.csv'.*school.mat"):
        registry.path("school", "x.csv")


def test_paths_follow_the_layout_of_the_cache(cache: Path):
    assert registry.path("school") == cache / "school"
    assert registry.path("school", "school.mat") == cache / "school" / "school.mat"


def test_the_cache_is_the_user_s_own_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MTLBOOK_DATA", "~/elsewhere")
    assert registry.cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("MTLBOOK_DATA")
    assert registry.cache_folder() == Path(pooch.os_cache("mtlbook"))


def test_the_registry_is_complete():
    sets = registry.registry()
    assert {name: len(entry.files) for name, entry in sets.items()} == {
        "school": 1,
        "mnist": 4,
        "usps": 1,
        "mulan_mtr": 14,
        "mulan_ml": 2,
        "nhanes_2017": 7,
        "omniglot": 2,
        "adult": 2,
        "nlupp": 41,
        "ud_english_ewt": 3,
        "ud_korean_gsd": 3,
        "conll2000": 1,
        "wnut17": 3,
        "sick": 1,
        "nsmc": 1,
        "kote": 2,
    }
    for name, entry in sets.items():
        assert entry.name == name
        assert entry.licence
        assert entry.terms in ("open", "nc", "unclear")
        assert entry.bytes == sum(remote.bytes for remote in entry.files)
        for remote in entry.files:
            assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256)
            # Pinned to a commit: a branch would change under the hash.
            pinned = re.fullmatch(r"https://.*/[0-9a-f]{40}/(.+)", remote.url)
            assert pinned
            # Files of one name in several folders have those in front of it here.
            there = pinned[1].replace("/", "_")
            assert f"_{there}".endswith(f"_{remote.file}")


@pytest.mark.parametrize("name", list(registry.registry()))
def test_downloaded_files_are_whole(
    name: str, monkeypatch: pytest.MonkeyPatch, downloaded: Callable[[str], None]
):
    monkeypatch.undo()
    downloaded(name)
    assert registry.verify(name) == []
