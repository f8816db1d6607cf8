"""An extension of Sphinx: what the site adds to the pages, so that the notebooks need not.

Equations and exercises get numbers and anchors, and every mention of a number becomes a link; code
and solutions fold; each page has a link to its notebook.
"""

import io
import re
from contextlib import redirect_stdout
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from mtlbook.book import exercises
from mtlbook.book.runner.book import section_of

NUMBER = r"\d+(?:\.\d+)*"
TAG = re.compile(r"\s*\\tag\{([^}]*)\}")
EXERCISE = re.compile(rf"({NUMBER}\.[a-z])\b")
CHECK = re.compile(r"""exercises\.check\(\s*["']([\w.]+)["']""")
ANCHOR = re.compile(r"""\bid=["']((?:figure|equation|exercise)-[\w-]+)["']""")
MENTION = re.compile(
    rf"\b(?P<kind>[Ff]igure|[Ee]quation|[Ee]xercise)s?\s+"
    rf"\(?(?P<number>{NUMBER}(?:\.[a-z])?)(?!\.?\w)\)?"
)
NO_LINKS_IN = (nodes.reference, nodes.title, nodes.literal, nodes.literal_block, nodes.raw)

Places = dict[str, str]  # by anchor, the page that has it


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    places: Places = {}
    app.connect("doctree-read", lambda app, doctree: _mark(app, doctree, places))
    app.connect(
        "doctree-resolved",
        lambda app, doctree, docname: _link_mentions(app, doctree, docname, places),
    )
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}


def anchor(kind: str, number: str) -> str:
    """`figure-6-3-2` for figure 6.3.2."""
    return f"{kind.lower()}-{number.replace('.', '-')}"


def _mark(app: Sphinx, doctree: nodes.document, places: Places) -> None:
    docname = app.env.docname
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".ipynb":
        section = section_of(path)
        if section:
            _number_equations(doctree, section)
        _mark_exercises(doctree)
        _fold(doctree)
        _offer_notebook(doctree, docname)
    for found in _anchors(doctree):
        places[found] = docname


def _anchors(doctree: nodes.document) -> set[str]:
    html = (node.astext() for node in doctree.findall(nodes.raw))
    own = (name for node in doctree.findall(nodes.Element) for name in node.get("ids", ()))
    return {name for text in html for name in ANCHOR.findall(text)} | {
        name for name in own if name.startswith(("figure-", "equation-", "exercise-"))
    }


def _number_equations(doctree: nodes.document, section: str) -> None:
    r"""Number the equations that have a `\tag`, or, on a page without any, all of them."""
    displayed = [*doctree.findall(nodes.math_block)]
    tagged = any(TAG.search(node.astext()) for node in displayed)
    count = 0
    for node in displayed:
        tag = TAG.search(node.astext())
        if tagged and tag is None:
            continue
        count += 1
        number = tag[1].strip("() ") if tag else f"{section}.{count}"
        text = TAG.sub("", node.astext())
        node.rawsource = text
        node.children = []
        node += nodes.Text(text)
        node["number"] = number
        node["ids"].append(anchor("equation", number))


def _mark_exercises(doctree: nodes.document) -> None:
    """Give each exercise an anchor, and a folded solution behind the cell that checks it."""
    unsolved: dict[str, nodes.Element] = {}
    for paragraph in doctree.findall(nodes.paragraph):
        # MyST puts an empty text in front of what is bold.
        first = next((child for child in paragraph.children if child.astext()), None)
        found = EXERCISE.match(first.astext()) if isinstance(first, nodes.strong) else None
        if found and anchor("exercise", found[1]) not in paragraph["ids"]:
            paragraph["ids"].append(anchor("exercise", found[1]))
            unsolved[found[1]] = paragraph
    for cell in _code_cells(doctree):
        for id in CHECK.findall(cell.astext()):  # noqa: A001
            if unsolved.pop(id, None) is not None:
                _insert_behind(cell, _solution(id))
    for id, paragraph in unsolved.items():  # noqa: A001
        _insert_behind(paragraph, _solution(id))


def _solution(id: str) -> list[nodes.Node]:  # noqa: A002
    """The reference answer, folded; nothing where the package has no such exercise."""
    if id not in {one.id for one in exercises.of(id.rpartition(".")[0])}:
        return []
    with redirect_stdout(io.StringIO()) as said:
        exercises.solution(id)
    text = said.getvalue().rstrip()
    if isinstance(exercises.get(id), exercises.Prediction):
        content: nodes.Element = nodes.paragraph(text, text)
    else:
        content = nodes.literal_block(text, text, language="python")
    return _folded(f"Solution of {id}", [content], "mtlbook-solution")


def _fold(doctree: nodes.document) -> None:
    """Fold every cell's code: shut where the cell is tagged `hide-input`."""
    for cell in _code_cells(doctree):
        shut = cell.attributes.pop("hide_mode", None) is not None
        for source in _called(cell, "cell_code_source"):
            lines = sum(bool(line.strip()) for line in source.astext().splitlines())
            index = cell.index(source)
            summary = f"Code, {lines} line{'s' * (lines != 1)}"
            cell[index : index + 1] = _folded(summary, [source], "mtlbook-code", is_open=not shut)


def _offer_notebook(doctree: nodes.document, docname: str) -> None:
    """Put a link to the notebook, which lies beside the page, under the title."""
    file = f"{docname.rpartition('/')[2]}.ipynb"
    html = (
        f'<p class="mtlbook-open"><a href="{escape(file)}" download>Open the notebook</a>: '
        f"<code>jupyter lab {escape(docname)}.ipynb</code> in your clone. "
        '<button type="button" class="btn btn-sm mtlbook-fold">Fold all code</button></p>'
    )
    titles = [*doctree.findall(nodes.title)]
    if titles:
        _insert_behind(titles[0], [nodes.raw("", html, format="html")])


def _link_mentions(app: Sphinx, doctree: nodes.document, docname: str, places: Places) -> None:
    """Make a link of each mention of a figure, equation or exercise that the book has."""
    for text in [*doctree.findall(nodes.Text)]:
        parent = text.parent
        if parent is None or _within(text, NO_LINKS_IN):
            continue
        pieces = _with_links(app, str(text), docname, places)
        if len(pieces) > 1:
            index = parent.index(text)
            parent[index : index + 1] = pieces


def _with_links(app: Sphinx, text: str, docname: str, places: Places) -> list[nodes.Node]:
    pieces: list[nodes.Node] = []
    end = 0
    for found in MENTION.finditer(text):
        name = anchor(found["kind"], found["number"])
        if name not in places:
            continue
        pieces.append(nodes.Text(text[end : found.start()]))
        page = places[name]
        uri = app.builder.get_relative_uri(docname, page) if page != docname else ""
        pieces.append(
            nodes.reference("", found[0], internal=True, refuri=f"{uri.partition('#')[0]}#{name}")
        )
        end = found.end()
    return [*pieces, nodes.Text(text[end:])]


def _within(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def _code_cells(doctree: nodes.document) -> list[nodes.Element]:
    return _called(doctree, "cell_code")


def _called(node: nodes.Element, name: str) -> list[nodes.Element]:
    """What myst-nb calls by this name."""
    return [one for one in node.findall(nodes.Element) if one.get("nb_element") == name]


def _folded(
    summary: str, content: list[nodes.Node], kind: str, *, is_open: bool = False
) -> list[nodes.Node]:
    opening = f"<details class={kind!r}{' open' * is_open}><summary>{escape(summary)}</summary>"
    return [
        nodes.raw("", opening, format="html"),
        *content,
        nodes.raw("", "</details>", format="html"),
    ]


def _insert_behind(node: nodes.Element, new: list[nodes.Node]) -> None:
    index = node.parent.index(node) + 1
    node.parent[index:index] = new
