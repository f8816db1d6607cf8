"""The package is a house of floors: imports run downward only."""

import ast
from graphlib import TopologicalSorter

import pytest

from tests.project import imported, package_modules

# Lowest first. What stands on one floor may import its neighbours, but not in a circle.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "randomness", "columns", "dropout", "files", "devices", "progress"}),
    frozenset({"tasks"}),
    frozenset({"data"}),
    frozenset(
        {
            "architectures",
            "auxiliary",
            "mechanisms",
            "non_neural",
            "sharing",
            "transfer",
            "weighting",
        }
    ),
    frozenset({"replicas", "training"}),
    frozenset({"selection", "statistics", "claims", "plots"}),
    frozenset({"studies"}),
    frozenset({"chapter", "exercises"}),
    frozenset({"runner"}),
    frozenset({"cli"}),
)
# A method stands alone: its folder imports no other method's folder.
METHODS = FLOORS[3]


def floor(part: str) -> int:
    """The number of the floor on which a module or folder of the package stands."""
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def links() -> dict[str, set[str]]:
    """Which parts of the package (its modules and folders) each part imports."""
    modules = {name: path for name, path in package_modules().items() if "." in name}
    parts: dict[str, set[str]] = {name.split(".")[1]: set() for name in modules}
    for name, path in modules.items():
        part = name.split(".")[1]
        for target in imported(ast.parse(path.read_text(encoding="utf-8"))):
            package, _, rest = target.partition(".")
            other = rest.partition(".")[0]
            if package == "mtlbook" and other in parts and other != part:
                parts[part].add(other)
    return parts


def upward(links: dict[str, set[str]]) -> list[str]:
    """The imports that run upward, or from one method to another."""
    return [
        f"{part} imports {other}"
        for part, others in links.items()
        for other in sorted(others)
        if floor(other) > floor(part) or {part, other} <= METHODS
    ]


def test_every_part_stands_on_one_floor() -> None:
    known = [part for parts in FLOORS for part in parts]
    assert len(known) == len(set(known))
    assert set(links()) <= set(known), "add the new part to FLOORS"


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    """Whoever imports any part imports `mtlbook/__init__.py` first."""
    tree = ast.parse(package_modules()["mtlbook"].read_text(encoding="utf-8"))
    assert [name for name in imported(tree) if name.startswith("mtlbook")] == []


def test_imports_run_downward_only() -> None:
    assert upward(links()) == []


def test_imports_run_in_no_circle() -> None:
    TopologicalSorter(links()).prepare()


def test_no_import_is_relative() -> None:
    """They would escape this test."""
    relative = [
        name
        for name, path in package_modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"training": {"tasks", "sharing"}, "claims": {"statistics"}}, []),
        ({"sharing": {"training"}}, ["sharing imports training"]),
        ({"data": {"cli"}}, ["data imports cli"]),
        ({"sharing": {"weighting"}}, ["sharing imports weighting"]),
    ],
)
def test_an_upward_import_is_found(links: dict[str, set[str]], found: list[str]) -> None:
    assert upward(links) == found
