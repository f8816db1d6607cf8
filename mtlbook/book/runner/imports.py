"""Which files of the package a page's results depend on, read from the sources without importing.

A page depends on the modules that it imports, on those that they import, and so on; on the tables
beside these modules; and of the tables that have entries of each section, on its own and on those
that it names. In doubt a file counts: a page that runs once too often is right, one that does not
run is not.
"""

import ast
import hashlib
import json
import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mtlbook
from mtlbook.book.runner.cells import read_cells, reads_ledger, without_magic

EXECUTES = "mtlbook.book.runner.worker"
"""The module that executes every page."""

NO_TABLES = {".py", ".pyc", ".typed"}

SHOWING = (
    "mtlbook.book.card",
    "mtlbook.book.diagram",
    "mtlbook.book.drawing",
    "mtlbook.book.exercises",
    "mtlbook.book.figures",
    "mtlbook.book.ledger",
    "mtlbook.book.progress",
    "mtlbook.book.replication",
    "mtlbook.book.runner",
    "mtlbook.book.table",
    "mtlbook.book.vanishing_line",
)
"""Modules and packages that no effect can depend on: they draw, ask, print, or execute."""

MEASURING = ("id", "better", "relative", "smallest", "roles", "of")
"""What of a claim its record's numbers and verdict depend on; the rest are words."""


@dataclass(frozen=True)
class Source:
    """What some source text imports.

    Attributes:
        names: dotted names of modules, or of what is in them.
        whole: packages that are imported as such, so that all their lazy names are within reach.
        lazy: public names that the module imports when they are asked for, and their modules.
        chooses: whether it computes the name of a module that it imports.
    """

    names: frozenset[str]
    whole: frozenset[str]
    lazy: dict[str, str] = field(default_factory=dict)
    chooses: bool = False


class Package:
    """The files of the package. Each is read once in the life of the object."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or Path(mtlbook.__file__).parent
        self._read: dict[str, Source | None] = {}

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module by its dotted name."""
        found = {path.relative_to(self.folder.parent): path for path in self.folder.rglob("*.py")}
        return {
            ".".join(name.with_suffix("").parts).removesuffix(".__init__"): path
            for name, path in found.items()
        }

    @cached_property
    def tables(self) -> list[Path]:
        """Every other file: TOML and JSON."""
        return [
            path
            for path in self.folder.rglob("*")
            if path.is_file() and path.suffix not in NO_TABLES
        ]

    def hash(self, section: str, notebook: str) -> str:
        """The hash of all that a page of this section with this text depends on."""
        part = Part(section, notebook, whole=reads_ledger(read_cells(notebook)))
        return self._hash(self.reached(section, notebook), part)

    def hash_of_results(self, section: str, notebook: str) -> str:
        """The hash of what a page's effects depend on: not of what draws, prints or executes."""
        reached = self.reached(section, notebook, without=SHOWING)
        # A table of lazy names says where they are, and what they are was followed.
        modules = [name for name in reached if not ((one := self._source(name)) and one.lazy)]
        return self._hash(modules, Part(section, notebook, keys=MEASURING))

    def _hash(self, modules: Iterable[str], part: "Part") -> str:
        contents = {self.modules[name]: self.modules[name].read_bytes() for name in modules}
        folders = {path.parent for path in contents}
        for table in self.tables:
            # One of which the page reads nothing doesn't count, even by its name.
            if any(folder in folders for folder in table.parents) and (own := part.of(table)):
                contents[table] = own
        digest = hashlib.sha256()
        for path, content in sorted(contents.items()):
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def reached(self, section: str, notebook: str, without: Collection[str] = ()) -> set[str]:
        """The modules that a page imports, directly or not, and those that execute it.

        What only the modules and packages of `without` import is not among them.
        """
        waiting = [EXECUTES]
        for cell in read_cells(notebook):
            if cell.kind == "code":
                waiting += self._imports(read_source(without_magic(cell.source)), "", section)
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or any(f"{name}.".startswith(f"{one}.") for one in without):
                continue
            seen.add(name)
            if name in self.modules:
                waiting += self._imports(self._source(name), name, section)
            waiting += [name.rpartition(".")[0]] if "." in name else []  # its package
        return seen & set(self.modules)

    def _imports(self, source: Source | None, importer: str, section: str) -> Iterator[str]:
        """The modules that a source imports; all where that cannot be read."""
        if source is None:
            yield from self.modules
            return
        for name in source.names:
            yield name
            package, _, last = name.rpartition(".")
            if package in self.modules and (one := self._source(package)):
                yield from filter(None, [one.lazy.get(last)])
        for name in source.whole:
            if name in self.modules and (one := self._source(name)):
                yield from one.lazy.values()
        if source.chooses and not source.lazy:
            yield from self._chosen(importer, section)

    def _chosen(self, importer: str, section: str) -> Iterable[str]:
        """What a page's run may import by a computed name."""
        match importer:
            case "mtlbook.book.exercises":
                return [f"{importer}.section_{section.replace('.', '_')}"]
            case "mtlbook.book.studies":
                return []  # a page reads what a study recorded, and runs none
        return self.modules

    def _source(self, name: str) -> Source | None:
        if name not in self._read:
            path = self.modules[name]
            package = name if path.stem == "__init__" else name.rpartition(".")[0]
            self._read[name] = read_source(path.read_text(encoding="utf-8"), package)
        return self._read[name]


def read_source(text: str, package: str = "") -> Source | None:
    """What a source text of a package imports; None where it cannot be read."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    names, whole, chooses = set(), set(), False
    for node in _executed(tree):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
                # `import a.b` gives the name a, whose lazy names are then within reach, too.
                whole |= {one.name if one.asname else one.name.split(".")[0] for one in aliases}
            case ast.ImportFrom(module=module, names=aliases, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*above, *filter(None, [module])])
                # A name may be a module of its own.
                names |= {base, *(f"{base}.{alias.name}" for alias in aliases)}
                whole |= {base for alias in aliases if alias.name == "*"}
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments
            ) if called in ("import_module", "__import__"):
                match arguments:
                    case [ast.Constant(value=str(name))]:
                        names.add(name)
                    case _:
                        chooses = True
    return Source(frozenset(names), frozenset(whole), _lazy(tree), chooses)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those below `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                for other in otherwise:
                    yield other
                    yield from _executed(other)
            case _:
                yield node
                yield from _executed(node)


def _lazy(tree: ast.Module) -> dict[str, str]:
    """The table by which a module's own `__getattr__` imports its public names."""
    if not any(isinstance(one, ast.FunctionDef) and one.name == "__getattr__" for one in tree.body):
        return {}
    return {
        str(key.value): str(value.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
        for key, value in zip(statement.value.keys, statement.value.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
    }


@dataclass(frozen=True)
class Part:
    """What a page reads of the tables that have entries of each section.

    Attributes:
        section: of the page: its own claims, and its own studies' records.
        notebook: its text: the claims of other sections that it names.
        whole: whether it reads all claims.
        keys: what counts of a claim; everything where none are given.
    """

    section: str
    notebook: str
    whole: bool = False
    keys: Collection[str] = ()

    def of(self, table: Path) -> bytes:
        """The part of a table."""
        content = table.read_bytes()
        try:
            if table.name == "claims.toml":
                claims = tomllib.loads(content.decode())["claim"]
                return json.dumps([*self._claims(claims)], default=str).encode()
            if table.parent.name == "records":
                return content if json.loads(content)["section"] == self.section else b""
        except (KeyError, TypeError, ValueError):
            return content  # malformed: whoever reads it will say so
        # All others hold words, looks, and what can be downloaded: no effect depends on them.
        return b"" if self.keys else content

    def _claims(self, claims: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for claim in claims:
            own = claim["section"] == self.section
            named = "id" in claim and claim["id"] in self.notebook
            if own or named or self.whole:
                yield {key: claim[key] for key in claim if not self.keys or key in self.keys}
