"""The book's site in a real browser: mathematics, images, search, phones and the dark."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.project import ROOT, notebooks

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

PAGES = [path.with_suffix(".html").as_posix() for path in notebooks()]
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
DESK = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}

TYPESET = "() => !window.MathJax || (MathJax.startup && MathJax.startup.promise.then(() => true))"
FORMULAE = """() => ({
    written: document.querySelectorAll(".math.notranslate").length,
    typeset: document.querySelectorAll(".math.notranslate:has(mjx-container svg)").length,
    wrong: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) => e.innerHTML),
})"""
IMAGES = """async () => {
    const images = [...document.querySelectorAll("main img")];
    await Promise.all(images.map((image) => image.decode().catch(() => null)));
    return images.map((image) => ({alt: image.alt, width: image.naturalWidth}));
}"""
WIDTHS = "() => [document.documentElement.scrollWidth, window.innerWidth]"
# The lowest contrast (WCAG) of a text that is seen with what lies behind it, and that text.
CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const channels = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((c) => {
            const s = c / 255;
            return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const colour = channels(getComputedStyle(one).backgroundColor);
            if (colour[3] > 250) return colour;
        }
        return [255, 255, 255, 255];
    };
    let lowest = [99, ""];
    for (const element of document.querySelectorAll(
        "main article :is(p, li, td, th, pre, figcaption, h1, h2, summary, caption)"
    )) {
        const text = element.innerText ? element.innerText.trim() : "";
        if (!text || !element.checkVisibility()) continue;
        const own = luminance(channels(getComputedStyle(element).color));
        const other = luminance(behind(element));
        const contrast = (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
        if (contrast < lowest[0]) lowest = [contrast, `${element.tagName}: ${text.slice(0, 60)}`];
    }
    return lowest;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Path:
    folder = tmp_path_factory.mktemp("book") / "site"
    import os

    if os.environ.get("SITE"):
        return Path(os.environ["SITE"])
    command = [sys.executable, "-m", "mtlbook.book.cli", "book", "--output", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site behind a server on this machine."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def opened(browser: "Browser", kind: dict[str, Any]) -> "Iterator[Page]":
    """A page in a browser of its own: nothing may go wrong, and no request leave the machine."""
    wrong: list[str] = []

    def on_console(message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            wrong.append(message.text)

    def on_request(request: "Request") -> None:
        if not request.url.startswith(("data:", "file:", "blob:", "http://127.0.0.1:")):
            wrong.append(f"asks for {request.url[:200]}")

    def on_failure(request: "Request") -> None:
        # Who leaves a page ends what it was still loading, such as its icon: no fault of the page.
        if request.failure != "net::ERR_ABORTED":
            wrong.append(f"failed, {request.failure}: {request.url[:200]}")

    context = browser.new_context(**kind)
    page = context.new_page()
    page.on("console", on_console)
    page.on("request", on_request)
    page.on("requestfailed", on_failure)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []


def visit(page: "Page", url: str) -> None:
    page.goto(url)
    page.wait_for_function(TYPESET)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_on_a_phone_in_the_dark(
    browser: "Browser", address: str, name: str
) -> None:
    with opened(browser, PHONE) as page:
        visit(page, f"{address}/{name}")
        formulae = page.evaluate(FORMULAE)
        assert formulae["wrong"] == []
        assert formulae["typeset"] == formulae["written"]
        for image in page.evaluate(IMAGES):
            assert image["width"] > 0, image
            assert len(image["alt"]) > 10, image
            assert "/" not in image["alt"].split()[0], "a path is no alternative text"
        width, window = page.evaluate(WIDTHS)
        assert width <= window, "the page scrolls sideways"
        contrast, text = page.evaluate(CONTRAST)
        assert contrast >= 4.5, text


def test_front_page_index_and_library_fit_a_phone(
    browser: "Browser", site: Path, address: str
) -> None:
    with opened(browser, PHONE) as page:
        for path in [*site.glob("*.html"), *site.glob("api/*.html")]:
            name = path.relative_to(site).as_posix()
            visit(page, f"{address}/{name}")
            formulae = page.evaluate(FORMULAE)
            assert formulae["typeset"] == formulae["written"], name
            width, window = page.evaluate(WIDTHS)
            assert width <= window, name
            contrast, text = page.evaluate(CONTRAST)
            assert contrast >= 4.5, (name, text)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_what_pages_say(
    browser: "Browser", site: Path, address: str, scheme: str
) -> None:
    start = address if scheme == "http" else site.as_uri()
    with opened(browser, DESK) as page:
        visit(page, f"{start}/{PAGES[0]}")
        page.locator("button.search-button-field, button.search-button__button").first.click()
        page.locator(
            "dialog input[type=search], .search-button__search-container input"
        ).first.fill("negative transfer")
        page.keyboard.press("Enter")
        found = page.locator("ul.search li")
        found.first.wait_for()
        assert found.count() > 1
        page.wait_for_function(
            "document.querySelector('#search-results .search-summary')"
            "?.textContent.includes('matching')"
        )
        found.locator("a").first.click()
        page.wait_for_selector("article h1")
        assert "negative transfer" in page.locator("article").inner_text().lower()


def test_a_reader_walks_through_the_book_from_its_files(browser: "Browser", site: Path) -> None:
    """The front page, a chapter, the next one, back; code and solutions that fold."""
    with opened(browser, DESK) as page:
        visit(page, (site / "index.html").as_uri())
        page.locator("article a[href^='notebooks/']").first.click()
        first = page.locator("article h1").inner_text()
        page.locator("a.right-next").click()
        second = page.locator("article h1").inner_text()
        assert second != first
        page.locator("a.left-prev").click()
        assert page.locator("article h1").inner_text() == first

        page.goto((site / PAGES[-1]).as_uri())
        shown = page.locator("details.mtlbook-code[open]")
        assert shown.count() > 0
        page.get_by_role("button", name="Fold all code").click()
        assert shown.count() == 0
        page.get_by_role("button", name="Show all code").click()
        assert shown.count() == page.locator("details.mtlbook-code").count()

        solution = page.locator("details.mtlbook-solution").first
        content = solution.locator(":scope > :not(summary)").first
        assert not content.is_visible()
        solution.locator("summary").click()
        assert content.is_visible()


def test_each_page_offers_its_notebook(browser: "Browser", address: str) -> None:
    with opened(browser, DESK) as page:
        visit(page, f"{address}/{PAGES[-1]}")
        with page.expect_download() as download:
            page.get_by_role("link", name="Open the notebook").click()
        original = ROOT / Path(PAGES[-1]).with_suffix(".ipynb")
        assert download.value.path().read_bytes() == original.read_bytes()


def test_the_reader_chooses_between_light_and_dark(browser: "Browser", address: str) -> None:
    with opened(browser, DESK) as page:
        visit(page, f"{address}/{PAGES[0]}")
        for theme in ("dark", "light"):
            page.locator("button.theme-switch-button:visible").click()
            page.locator(f"button.theme-change-button[data-mode={theme}]:visible").click()
            assert page.evaluate("document.documentElement.dataset.theme") == theme
