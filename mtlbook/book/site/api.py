"""The library's API as pages of MyST Markdown, which is how its docstrings are written.

The modules are parsed and not imported: a signature stands as it is in the source.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from itertools import groupby
from pathlib import Path

import mtlbook

PACKAGE = Path(mtlbook.__file__).parent
# The packages in the order in which a reader of the overview meets them; others follow.
ORDER = (
    "", "data", "sharing", "mechanisms", "non_neural", "architectures", "auxiliary", "weighting",
    "balancing", "transfer", "training", "layers",
)  # fmt: skip
INTRODUCTION = """\
# The library's API

The methods are plain PyTorch and scikit-learn code without the book. These names come from
`import mtlbook`; everything else is imported from its module, which is named for its section of the
overview.

"""
FIELDS = ("Arguments", "Attributes", "Raises", "Returns", "Yields")
SECTION = re.compile(rf"({'|'.join((*FIELDS, 'Example', 'Examples'))}):")
FIELD = re.compile(r"(?:    )?([*\w][\w*, .]*): (.*)", re.DOTALL)
ROLE = re.compile(r":\w+:(`[^`]+`)")
CODE_OR_MATH = re.compile(r"(`[^`]*`|\${1,2}[^$]+\${1,2})")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the library: its dotted name and its syntax tree."""

    name: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """`sharing` for `mtlbook.sharing.hard` and for `mtlbook.sharing`; empty at the top."""
        return self.name.split(".")[1] if self.name.count(".") > 1 or self.is_package else ""

    @property
    def is_package(self) -> bool:
        """Whether it is a folder."""
        return (PACKAGE.parent / Path(*self.name.split("."))).is_dir()


def write(folder: Path) -> None:
    """Write `index.md` and a page for each package of the library."""
    folder.mkdir(parents=True)
    ordered = sorted(modules(), key=lambda one: (_place(one.package), one.package, one.name))
    names = []
    for package, own in groupby(ordered, key=lambda one: one.package):
        names.append(package or "mtlbook")
        (folder / f"{names[-1]}.md").write_text(_page(package, [*own]), encoding="utf-8")
    tree = "\n".join(["```{toctree}", ":maxdepth: 1", "", *names, "```", ""])
    (folder / "index.md").write_text(f"{INTRODUCTION}{_names()}\n\n{tree}", encoding="utf-8")


def modules() -> list[Module]:
    """Every module of the library that has a public name, and every package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] == "book" or parts == (PACKAGE.name, "__init__"):
            continue
        name = ".".join(parts).removesuffix(".__init__")
        found.append(Module(name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _place(package: str) -> int:
    return ORDER.index(package) if package in ORDER else len(ORDER)


def _names() -> str:
    """The public names with the first lines of their docstrings."""
    tree = ast.parse(Path(mtlbook.__file__).read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    rows = []
    for module in modules():
        for node in _public(module.tree.body):
            # A module may hand on what another defines.
            if node.name in homes and homes[node.name].startswith(module.name.rpartition(".")[0]):
                first = _prose((ast.get_docstring(node) or "").partition("\n")[0])
                row = f"{{py:obj}}`~{module.name}.{node.name}`\n: {first}"
                rows.append((node.name.lower(), row))
    return "\n\n".join(row for _, row in sorted(rows))


def _page(package: str, of_package: list[Module]) -> str:
    parts = []
    if not package:
        parts.append("# mtlbook\n\nWhat every method builds on.")
    for module in of_package:
        level = "#" if module.is_package else "##"
        objects = [_object(node, 9) for node in _public(module.tree.body)]
        parts += [
            f"{level} {module.name}",
            f":::{{py:module}} {module.name}\n:::",
            markdown(ast.get_docstring(module.tree) or ""),
            *objects,
        ]
    return "\n\n".join(parts) + "\n"


def _public(body: list[ast.stmt]) -> Iterator[ast.ClassDef | Function]:
    for node in body:
        named = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not node.name.startswith("_") and ast.get_docstring(node):
            yield node


def _object(node: ast.ClassDef | Function, colons: int, *, inside: bool = False) -> str:
    """A class or function as a directive of Sphinx's Python domain, with its docstring."""
    fence = ":" * colons
    if isinstance(node, ast.ClassDef):
        kind, signature, options = "class", f"{node.name}{_constructor(node)}", []
    else:
        kind, signature, options = _callable(node, inside)
    lines = [f"{fence}{{py:{kind}}} {signature}", *options, "", markdown(ast.get_docstring(node))]
    if isinstance(node, ast.ClassDef):
        for member in _public(node.body):
            lines += ["", _object(member, colons - 1, inside=True)]
    return "\n".join([*lines, fence])


def _callable(node: Function, inside: bool) -> tuple[str, str, list[str]]:
    decorators = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
    returns = ast.unparse(node.returns) if node.returns else ""
    if decorators & {"property", "cached_property"}:
        return "property", node.name, [f":type: {returns}"] if returns else []
    bound = inside and "staticmethod" not in decorators
    signature = f"{node.name}({_arguments(node, bound)})" + (f" -> {returns}" if returns else "")
    marks = {"classmethod", "staticmethod", "abstractmethod"} & decorators
    kind = "method" if inside else "function"
    return kind, signature, [f":{mark}:" for mark in sorted(marks)]


def _arguments(node: Function, bound: bool) -> str:
    arguments = node.args
    if bound:
        first = arguments.posonlyargs or arguments.args
        del first[:1]
    return ast.unparse(arguments)


def _constructor(node: ast.ClassDef) -> str:
    """What a class is called with: its `__init__`, or the fields of a dataclass."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return f"({_arguments(member, bound=True)})"
    if not any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        return ""
    fields = [
        ast.unparse(member)
        for member in node.body
        if isinstance(member, ast.AnnAssign) and "ClassVar" not in ast.unparse(member.annotation)
    ]
    return f"({', '.join(fields)})"


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown: its sections as lists, its examples as code."""
    blocks: list[str] = []
    lines = cleandoc(docstring or "").splitlines()
    while lines:
        body: list[str] = []
        heading = SECTION.fullmatch(lines[0])
        if heading:
            lines.pop(0)
        while lines and not SECTION.fullmatch(lines[0]):
            body.append(lines.pop(0))
        if not heading:
            blocks.append(_prose_with_code("\n".join(body)))
            continue
        blocks.append(f"**{heading[1]}**")
        text = cleandoc("\n".join(body))
        blocks.append(_fields(text) if heading[1] in FIELDS else _prose_with_code(text))
    return "\n\n".join(block for block in blocks if block)


def _fields(text: str) -> str:
    """`name: what it is`, with its continuation indented, as a list."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(" ") and rows:
            rows[-1].append(line.strip())
        elif line.strip():
            rows.append([line.strip()])
    return "\n".join(f"* {_field(' '.join(row))}" for row in rows)


def _field(row: str) -> str:
    found = FIELD.fullmatch(row)
    if not found:
        return _prose(row)
    names = ", ".join(f"`{name.strip()}`" for name in found[1].split(","))
    return f"{names}: {_prose(found[2])}"


def _prose_with_code(text: str) -> str:
    """Paragraphs, of which those in `>>>` or in an indentation are code."""
    parts = []
    for code, paragraphs in groupby(re.split(r"\n\s*\n", text), key=_is_code):
        own = [one.rstrip() for one in paragraphs if one.strip()]
        if not own:
            continue
        if not code:
            parts += [_prose(one) for one in own]
            continue
        joined = cleandoc("\n\n".join([*own]))
        language = "pycon" if joined.startswith(">>>") else "text"
        parts.append(f"```{language}\n{joined}\n```")
    return "\n\n".join(parts)


def _is_code(paragraph: str) -> bool:
    return paragraph.lstrip("\n").startswith((">>>", "    "))


def _prose(text: str) -> str:
    """Text whose roles are plain code and whose angle brackets are no HTML."""
    pieces = CODE_OR_MATH.split(re.sub(r"::$", ":", ROLE.sub(r"\1", text), flags=re.MULTILINE))
    pieces[::2] = [re.sub(r"<(?=[A-Za-z/!?])", r"\<", piece) for piece in pieces[::2]]
    return "".join(pieces)
