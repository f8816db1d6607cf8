"""`mtlbook book`: the site is built whole beside its folder, then takes its place."""

import importlib.resources
import io
import re
import shutil
import tempfile
from pathlib import Path

import myst_nb  # noqa: F401 (named here so that a missing one is told at once)
import sphinx_book_theme  # noqa: F401
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from mtlbook.book.runner.book import Book
from mtlbook.book.site import sources
from mtlbook.errors import UsageError

MARK = ".mtlbook-site"
STATIC = ("site.css", "site.js", "icon.svg")
MATHJAX = "tex-svg-full.js"  # one file: all of TeX, drawn as SVG, so that no font is loaded

SETTINGS = {
    "project": "mtlbook",
    "language": "en",
    "extensions": ["myst_nb", "sphinx.ext.mathjax", "mtlbook.book.site.extension"],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",  # with mathematics, as in the notebook
    "suppress_warnings": ["myst-nb.lexer"],  # a notebook need not say that it is Python
    "myst_enable_extensions": ["amsmath", "colon_fence", "deflist", "dollarmath"],
    "myst_heading_anchors": 3,
    "python_maximum_signature_line_length": 80,
    "add_module_names": False,
    "mathjax_path": f"mathjax/{MATHJAX}",
    # The menu would load more of MathJax than the site has.
    "mathjax3_config": {"options": {"enableMenu": False}},
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {
        "use_download_button": False,  # each page has a link to its notebook
        "show_toc_level": 2,
        "footer_content_items": [],
        "logo": {"text": "mtlbook"},
        # The sidebar has the search, too: without these there is no bar above it.
        "navbar_start": [],
        "navbar_center": [],
        "navbar_end": [],
        "navbar_persistent": [],
    },
    "html_context": {"default_mode": "auto"},  # dark where the reader's system is
    "html_title": "mtlbook",
    "html_static_path": ["_static"],
    "html_favicon": "_static/icon.svg",
    "html_css_files": ["site.css"],
    "html_js_files": ["site.js"],
    "html_copy_source": False,
    "html_domain_indices": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
}


class BuildError(Exception):
    """The site was not built; the message has a line for each warning of Sphinx."""


def build(book: Book, output: Path) -> Path:
    """Build the site into a folder, and return its first page.

    What is there before, a site of ours, is replaced at the very end.

    Raises:
        UsageError: where the folder can't be written, or holds anything else than a site of ours.
        BuildError: for anything that Sphinx warns of; the folder is left as it was.
    """
    output = output.resolve()
    _check(output)
    fresh, old = (output.with_name(f".{output.name}.{part}") for part in ("partial", "old"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove(fresh)  # of a killed run
        try:
            with tempfile.TemporaryDirectory(prefix="mtlbook-") as scratch:
                # Not rendered in its place: myst-nb also writes beside the folder that it is told.
                shutil.copytree(_render(book, Path(scratch)), fresh)
            _remove(old)
            if output.exists():
                output.rename(old)
            fresh.rename(output)
        finally:
            _remove(fresh)
            _remove(old)
    except OSError as error:
        raise UsageError(
            f"cannot write {output} ({error.strerror}): choose a folder that can be written"
        ) from error
    return output / "index.html"


def _check(output: Path) -> None:
    """Refuse a folder that holds what no build has put there."""
    if output.is_dir() and (not any(output.iterdir()) or (output / MARK).is_file()):
        return
    if output.exists():
        raise UsageError(
            f"{output} is no site that mtlbook book has built, and would be overwritten: "
            "pass an empty or a new folder by --output DIR"
        )


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _render(book: Book, scratch: Path) -> Path:
    """Render the site into a folder of the scratch folder, and return that."""
    source, rendered, doctrees = (scratch / name for name in ("source", "site", "doctrees"))
    sources.write(book, source)
    static = source / "_static"
    (static / "mathjax").mkdir(parents=True)
    own = importlib.resources.files("mtlbook.book.site")
    for name in STATIC:
        (static / name).write_bytes((own / name).read_bytes())
    # The wheel's folder has hyphens in its name.
    mathjax = importlib.resources.files("sphinx-mathjax-offline") / "static" / "mathjax" / MATHJAX
    (static / "mathjax" / MATHJAX).write_bytes(mathjax.read_bytes())

    warnings = io.StringIO()
    with patch_docutils(source), docutils_namespace():
        app = Sphinx(
            source,
            None,
            rendered,
            doctrees,
            "html",
            confoverrides=SETTINGS,
            status=None,
            warning=warnings,
            freshenv=True,
        )
        app.build(force_all=True)
    told = _lines(warnings.getvalue(), source)
    if told:
        raise BuildError(told)
    sources.copy_notebooks(book, rendered)
    (rendered / MARK).touch()
    return rendered


def _lines(warnings: str, source: Path) -> str:
    """Sphinx's warnings without colours, and with the notebooks' own paths."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", warnings)
    return plain.replace(f"{source}/", "").strip()
