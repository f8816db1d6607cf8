"""`mtlbook book` on a tiny book: what its pages hold, what is refused, what a failure leaves."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtlbook import __all__ as PUBLIC_NAMES
from mtlbook.book.runner.book import Book, open_book
from mtlbook.book.site import api, build, sources
from mtlbook.book.site.build import MARK
from tests import tiny_book
from tests.tiny_book import Cli, files

clone = tiny_book.clone
mtlbook = tiny_book.mtlbook

PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\10\6\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8"
    b"\xcf\xc0\xf0\x1f\0\5\0\1\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82"
).decode()
FIGURE = (
    f'<figure id="figure-3-1-1"><img alt="A rising line." src="data:image/png;base64,{PIXEL}">'
    "<figcaption>Figure 3.1.1. It rises.</figcaption></figure>"
)
CARD = '<div class="mtlbook-claim" style="border: 1px solid">Claim 3.1: supported</div>'


def shown(source: str, *data: dict[str, str], tags: tuple[str, ...] = ()):
    outputs = [new_output("display_data", data=one) for one in data]
    return new_code_cell(source, outputs=outputs, metadata={"tags": [*tags]})


def write(path: Path, *cells) -> Path:
    notebook = new_notebook(cells=[*cells])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def write_book(notebooks: Path) -> None:
    write(
        notebooks / "0_start_here.ipynb",
        new_markdown_cell("# Start here\n\nFirst [sharing](3_sharing/3_1_hard.ipynb)."),
    )
    write(
        notebooks / "3_sharing" / "3_1_hard.ipynb",
        new_markdown_cell("# 3.1 Hard sharing"),
        new_code_cell("seeds = 4  # replicates", metadata={"tags": ["parameters"]}),
        shown("set_up = 1\nfolded = 2", tags=("hide-input",)),
        new_markdown_cell("## 3.1.1 The idea\n\n$$a = b$$\n\nand\n\n$$c &= d \\\\ e &= f$$"),
        shown("page.figure(figure)", {"text/html": FIGURE, "text/plain": "Figure 3.1.1"}),
        shown("page.claim()", {"text/html": CARD, "text/plain": "Claim 3.1"}),
        shown("page.finding()", {"text/markdown": "As Figure 3.1.1 and equation (3.1.2) say."}),
        new_markdown_cell("**3.1.a** Write the joint loss.\n\n**3.1.z** Explain."),
        shown('exercises.check("3.1.a", ...)'),
    )
    for name in ("3_the_parts_together", "3_2_soft"):
        write(
            notebooks / "3_sharing" / f"{name}.ipynb",
            new_markdown_cell(
                f"# About {name}\n\nFigure 3.1.1, Figure 9.9.9, exercise 3.1.a; "
                "[the licence](../../LICENSE)\n\n$$x$$\n\n$$y \\tag{3.2.7}$$"
            ),
        )


def book(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtlbook.book.cli", "book", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    (folder / "pyproject.toml").touch()
    (folder / "LICENSE").write_text("free")
    write_book(folder / "notebooks")
    run = book(folder)
    assert run.returncode == 0, run.stdout + run.stderr
    site = folder / "build" / "site"
    assert run.stdout.split() == [str(site / "index.html")]
    return site


def page(site: Path, name: str = "notebooks/3_sharing/3_1_hard") -> str:
    """A page without its line breaks."""
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", text)


def test_the_notebooks_are_copied_and_offered(built: Path):
    original = built.parents[1] / "notebooks" / "3_sharing" / "3_1_hard.ipynb"
    copy = built / "notebooks" / "3_sharing" / "3_1_hard.ipynb"
    assert copy.read_bytes() == original.read_bytes()
    assert '<a href="3_1_hard.ipynb" download>Open the notebook</a>' in page(built)


def test_pages_follow_each_other_as_in_the_paper(built: Path):
    links = re.findall(r'<a class="reference internal" href="([^"#]+)"', page(built, "index"))
    chapter = [f"notebooks/3_sharing/3_{one}.html" for one in ("1_hard", "2_soft")]
    closing = "notebooks/3_sharing/3_the_parts_together.html"
    pages = [link for link in dict.fromkeys(links) if link.startswith("notebooks")]
    assert pages == ["notebooks/0_start_here.html", *chapter, closing]
    assert "3 Sharing" in page(built, "index")
    following = re.search(r'class="right-next" href="([^"]+)"', page(built))
    assert following
    assert following[1] == "3_2_soft.html"


def test_links_between_notebooks_lead_to_pages(built: Path):
    assert 'href="3_sharing/3_1_hard.html"' in page(built, "notebooks/0_start_here")


def test_a_figure_keeps_its_alternative_text_and_its_caption(built: Path):
    assert '<figure id="figure-3-1-1"><img alt="A rising line." src="data:image/png' in page(built)
    assert "<figcaption>Figure 3.1.1. It rises.</figcaption>" in page(built)
    assert 'class="mtlbook-claim"' in page(built)


def test_equations_are_numbered_by_section_or_by_their_tags(built: Path):
    assert re.findall(r'<span class="eqno">\(([\d.]+)\)', page(built)) == ["3.1.1", "3.1.2"]
    assert 'id="equation-3-1-2"' in page(built)
    other = page(built, "notebooks/3_sharing/3_2_soft")
    assert re.findall(r'<span class="eqno">\(([\d.]+)\)', other) == ["3.2.7"]
    assert r"\tag" not in other


def test_what_is_mentioned_is_linked_where_the_book_has_it(built: Path):
    assert '<a class="reference internal" href="#figure-3-1-1">Figure 3.1.1</a>' in page(built)
    assert 'href="#equation-3-1-2">equation (3.1.2)</a>' in page(built)
    other = page(built, "notebooks/3_sharing/3_2_soft")
    assert 'href="3_1_hard.html#figure-3-1-1">Figure 3.1.1</a>' in other
    assert 'href="3_1_hard.html#exercise-3-1-a">exercise 3.1.a</a>' in other
    assert ">Figure 9.9.9" not in other


def test_exercises_have_anchors_and_folded_solutions(built: Path):
    assert 'id="exercise-3-1-a"' in page(built)
    assert 'id="exercise-3-1-z"' in page(built)
    (solution,) = re.findall(
        r"<details class='mtlbook-solution'><summary>([^<]*)</summary>(.*?)</details>", page(built)
    )
    assert solution[0] == "Solution of 3.1.a"
    assert "highlight" in solution[1]


def test_code_is_folded_where_it_is_tagged_so(built: Path):
    found = re.findall(r"<details class='mtlbook-code'( open)?><summary>([^<]*)<", page(built))
    assert (" open", "Code, 1 line") in found
    assert [one for one in found if not one[0]] == [("", "Code, 2 lines")]


def test_what_the_site_loads_lies_in_it(built: Path):
    """Scripts, styles and images, of every page; links may lead elsewhere."""
    for html in {*built.rglob("*.html")} - {*(built / "_static").rglob("*.html")}:
        text = html.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*?(?:src|href)="([^"]+)"', text)
        for target in loaded:
            name = re.split(r"[?#]", target)[0]
            assert target.startswith("data:") or (html.parent / name).exists(), (html, target)


def test_the_library_is_described_from_its_docstrings(built: Path):
    sharing = page(built, "api/sharing")
    assert 'id="mtlbook.sharing.hard.HardSharing"' in sharing
    assert "branch_at" in sharing
    assert "ŷ_t = h_t(b_t(f(x)))" in sharing
    assert 'href="sharing.html#mtlbook.sharing.hard.HardSharing"' in page(built, "api/index")


def test_every_public_name_is_listed():
    listed = re.findall(r"\{py:obj\}`~[\w.]+\.(\w+)`", api._names())
    assert sorted(listed) == sorted(PUBLIC_NAMES)


DOCSTRING = """
A step.

    w = θ − ∇L

See :class:`Task`; <b> is no tag. The code::

    run()

Arguments:
    tasks, names: in order; a name
        goes on.
    *more: others.

Raises:
    UsageError: for none.

Example:
    Two of them.

    >>> 1 + 1
    2
"""
AS_MARKDOWN = r"""A step.

```text
w = θ − ∇L
```

See `Task`; \<b> is no tag. The code:

```text
run()
```

**Arguments**

* `tasks`, `names`: in order; a name goes on.
* `*more`: others.

**Raises**

* `UsageError`: for none.

**Example**

Two of them.

```pycon
>>> 1 + 1
2
```"""


def test_docstrings_become_markdown():
    assert api.markdown(DOCSTRING) == AS_MARKDOWN


def test_folders_become_titles():
    assert sources.chapter_title("5_non_neural_models") == "5 Non-neural models"


def test_a_site_is_replaced_as_a_whole(clone: Path, monkeypatch: pytest.MonkeyPatch):
    write_book(clone / "notebooks")

    def render(_book: Book, scratch: Path) -> Path:
        assert files(site) == before  # the old site stands until the new one is whole
        (scratch / "site").mkdir()
        (scratch / "site" / MARK).touch()
        (scratch / "site" / name).touch()
        return scratch / "site"

    monkeypatch.setattr(build, "_render", render)
    site = clone / "build" / "site"
    before: set[str] = set()
    for name in ("first.html", "second.html"):
        build.build(open_book(clone / "notebooks"), site)
        assert files(site) == {MARK, name}
        assert [path.name for path in site.parent.iterdir()] == ["site"]
        before = {MARK, name}


def test_what_is_no_site_is_never_overwritten(clone: Path, mtlbook: Cli):
    write_book(clone / "notebooks")
    (clone / "mine").mkdir()
    (clone / "mine" / "thesis.tex").touch()
    for output in ("mine", "pyproject.toml", "pyproject.toml/site", "notebooks"):
        before = files(clone)
        assert mtlbook("book", "--output", output) == 2
        assert "--output DIR" in mtlbook.err or "choose a folder" in mtlbook.err
        assert len(mtlbook.err.splitlines()) == 1
        assert files(clone) == before


def test_a_folder_without_chapters_is_refused(clone: Path, mtlbook: Cli):
    assert mtlbook("book") == 2
    assert "holds no chapter" in mtlbook.err


def test_a_warning_fails_the_build_and_leaves_the_folder_as_it_was(clone: Path):
    write(
        clone / "notebooks" / "3_sharing" / "3_1_hard.ipynb",
        new_markdown_cell("# 3.1 Hard sharing\n\nSee [another](3_9_missing.ipynb)."),
    )
    site = clone / "site"
    site.mkdir()
    (site / MARK).touch()
    run = book(clone, "--output", "site")
    assert run.returncode == 1
    assert run.stdout == ""
    warning, summary = run.stderr.splitlines()
    assert warning.startswith("notebooks/3_sharing/3_1_hard.ipynb")
    assert "3_9_missing.ipynb" in warning
    assert summary.startswith("mtlbook: the book is not built")
    assert files(clone / "site") == {MARK}
    assert not [path for path in clone.iterdir() if path.name.startswith(".")]


def test_without_sphinx_one_line_says_what_is_missing(clone: Path):
    write_book(clone / "notebooks")
    block = "import sys; sys.modules['sphinx'] = None; from mtlbook.book import cli; "
    command = [sys.executable, "-c", block + "sys.exit(cli.main(['book']))"]
    run = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "sphinx is missing" in line
    assert "pip install 'mtlbook[book]'" in line
