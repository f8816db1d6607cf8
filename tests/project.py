"""What the tests of the project's own form know about it: its files, imports and dependencies."""

import ast
import functools
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mtlbook"


def settings() -> dict[str, Any]:
    """The content of `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def package_modules() -> dict[str, Path]:
    """The files of the package by their dotted names, `mtlbook.data` for its `__init__.py`."""
    files = {path.relative_to(ROOT).with_suffix(""): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}


def notebooks() -> list[Path]:
    """The book's notebooks relative to the root."""
    found = (ROOT / "notebooks").rglob("*.ipynb")
    return sorted(one.relative_to(ROOT) for one in found if ".ipynb_checkpoints" not in one.parts)


def tracked_files() -> list[Path]:
    """The files that git has or would add; none outside a git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / name for name in run.stdout.split("\0") if name]
    return sorted({path for path in files if path.is_file()})


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a syntax tree imports anywhere.

    Each name of `from mtlbook import claims` counts, since it may be a module. Relative imports
    are not resolved: ruff forbids them.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def importable_dependencies(extras: frozenset[str] = frozenset()) -> frozenset[str]:
    """The top-level modules of the dependencies that the project declares, with some extras."""
    project = settings()["project"]
    lines = project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    return frozenset(
        module
        for module, distributions in packages_distributions().items()
        if declared & {canonicalize_name(distribution) for distribution in distributions}
    )
