"""Pages as a reader uses them: in JupyterLab, in a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mtlbook.book import exercises
from mtlbook.book.runner.book import section_of
from tests.project import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

# Two pages that take few seconds with four seeds, and a parameter that they cannot have.
NOTEBOOKS = ROOT / "notebooks"
SECTIONS = ("4", "4.1")
SECONDS = 1000  # what playwright counts in milliseconds

# All cells are drawn, not only those in view; and nobody is asked whether to fetch the news.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": '{"windowingMode": "none"}',
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": '{"fetchNews": "false"}',
}
# Errors, warnings and whatever else is written to the standard error.
ERRORS = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
# Every cell has a number, or one has failed.
FINISHED = """(errors) => {
    if (document.querySelector(errors)) return true;
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    const numbered = (prompt) => /^\\[\\d+\\]:$/.test(prompt.textContent.trim());
    return prompts.length > 0 && prompts.every(numbered);
}"""
IMAGES = """() => [...document.querySelectorAll(".jp-OutputArea img")].map(
    (image) => [image.alt, image.naturalWidth]
)"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[str]:
    """JupyterLab on a copy of the notebooks: its address."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(NOTEBOOKS, folder / "clone" / "notebooks")
    shutil.copy(ROOT / "pyproject.toml", folder / "clone")
    for name, text in SETTINGS.items():
        file = folder / "settings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        *("--IdentityProvider.token=", f"--ServerApp.root_dir={folder / 'clone'}"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "MTLBOOK_OUTPUT": "output",
    }
    environment = {name: str(folder / value) for name, value in own.items()}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **environment, "PYTHONPATH": path}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api", server, folder / "log")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    pytest.fail(f"JupyterLab has not started within a minute: {log.read_text()}")


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(60 * SECONDS)
    yield context.new_page()
    context.close()


def cell(page: "Page", text: str) -> "Locator":
    """The first code cell whose source holds a text."""
    editors = page.locator(".jp-CodeCell", has=page.locator(".cm-content", has_text=text))
    return editors.first


def write(cell: "Locator", source: str) -> None:
    """Replace what a cell's editor holds."""
    cell.locator(".cm-content").click()
    cell.page.keyboard.press("Control+a")
    cell.page.keyboard.insert_text(source)


def run(cell: "Locator") -> str:
    """Run one cell, and return what it says."""
    cell.locator(".cm-content").click()
    cell.page.keyboard.press("Control+Enter")
    cell.page.wait_for_timeout(200)
    cell.locator(".jp-InputPrompt", has_text="[*]").wait_for(state="detached")
    return cell.locator(".jp-OutputArea").inner_text()


def run_all(page: "Page") -> None:
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_reader_runs_a_page(page: "Page", lab: str, section: str) -> None:
    (path,) = (path for path in NOTEBOOKS.rglob("*.ipynb") if section_of(path) == section)
    page.goto(f"{lab}/lab/tree/{path.relative_to(NOTEBOOKS.parent).as_posix()}?reset")
    parameters = cell(page, "first_seed = ")
    parameters.wait_for()
    # A kernel has started: its name stands in the toolbar, and it is idle.
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()

    # Four seeds, from the menu.
    original = parameters.locator(".cm-content").inner_text()
    few = re.sub(r"\bseeds = \d+", "seeds = 4", original, count=1)
    assert few != original
    write(parameters, few)
    run_all(page)
    page.locator(".jp-InputPrompt", has_text="[*]").first.wait_for()
    # Half a minute; several times as long where the machine does other things, too.
    page.wait_for_function(FINISHED, arg=ERRORS, timeout=240 * SECONDS)
    assert page.locator(ERRORS).all_inner_texts() == []
    images = page.evaluate(IMAGES)
    assert len(images) > 0
    assert all(len(alt) > 10 and width > 0 for alt, width in images), images
    assert "too few seeds" in page.locator(".jp-Notebook").inner_text()

    # An exercise, wrongly and rightly.
    id = _to_write(section)  # noqa: A001
    exercise = cell(page, f'exercises.check("{id}"')
    opening = "from mtlbook.book import exercises\n\n"
    write(exercise, f'{opening}exercises.check("{id}", 0)')
    assert f"Exercise {id}: not yet" in run(exercise)
    write(exercise, f'{opening}exercises.check("{id}", exercises.get("{id}").reference)')
    assert f"Exercise {id}: correct." in run(exercise)

    # A parameter that cannot be: its own message and nothing else.
    write(parameters, few.replace("seeds = 4", "seeds = 0", 1))
    run_all(page)
    error = page.locator(ERRORS, has_text="seeds = 0").first
    error.wait_for()
    (message,) = error.inner_text().strip().splitlines()
    assert message.startswith("UsageError: parameter seeds = 0: must be")


def _to_write(section: str) -> str:
    """The first exercise of a section that asks for an answer in code."""
    known = exercises.of(section)
    return next(one.id for one in known if not isinstance(one, exercises.Prediction))
