"""The package is a house of floors: imports run downward only."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

import mtlbook
from tests.project import imported, package_modules

# Lowest first. What stands on one floor may import its neighbours, but not in a circle.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "randomness", "devices"}),
    frozenset({"tasks", "metrics", "layers", "combiner"}),
    frozenset({"data"}),
    frozenset(
        {
            "architectures",
            "auxiliary",
            "balancing",
            "mechanisms",
            "non_neural",
            "sharing",
            "transfer",
            "weighting",
        }
    ),
    frozenset({"training"}),
    frozenset({"statistics"}),
    frozenset({"book"}),
)
METHODS = FLOORS[3]
# A method stands alone, unless it is another's special case: (its folder, the other's).
SPECIAL_CASES = frozenset(
    {
        ("architectures", "sharing"),  # a relationship network is hard sharing with a prior
        ("auxiliary", "balancing"),  # gated auxiliary gradients are weighed by their Gramian
        ("balancing", "weighting"),  # IMTL is IMTL-L and IMTL-G
    }
)


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


def forbidden(
    links: dict[str, set[str]], special: frozenset[tuple[str, str]] = SPECIAL_CASES
) -> list[str]:
    """The imports that run upward, or from one method to another that it is no case of."""
    return [
        f"{part} imports {other}"
        for part, others in links.items()
        for other in sorted(others)
        if floor(other) > floor(part) or ({part, other} <= METHODS and (part, other) not in special)
    ]


def test_every_part_stands_on_one_floor() -> None:
    known = [part for parts in FLOORS for part in parts]
    assert len(known) == len(set(known))
    assert set(links()) == set(known), "FLOORS names each part of the package, and no other"


def test_the_package_itself_imports_nothing_before_it_is_asked_for() -> None:
    """Whoever imports any part imports `mtlbook/__init__.py` first."""
    imported = "[m for m in sys.modules if m.startswith(('mtlbook.', 'torch'))]"
    code = f"import sys, mtlbook; print({imported})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_those_of_their_modules() -> None:
    assert {name: getattr(mtlbook, name).__name__ for name in mtlbook.__all__} == {
        name: name for name in mtlbook.__all__
    }
    assert sorted(mtlbook._HOMES) == sorted(mtlbook.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = mtlbook.fits


def test_imports_run_downward_only() -> None:
    assert forbidden(links()) == []


def test_every_special_case_is_one() -> None:
    found = links()
    assert [pair for pair in SPECIAL_CASES if pair[1] not in found[pair[0]]] == []


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
        ({"training": {"tasks", "sharing"}, "book": {"statistics"}}, []),
        ({"sharing": {"training"}}, ["sharing imports training"]),
        ({"data": {"book"}}, ["data imports book"]),
        ({"weighting": {"combiner", "balancing"}}, ["weighting imports balancing"]),
        ({"training": {"statistics"}}, ["training imports statistics"]),
        ({"statistics": {"book"}}, ["statistics imports book"]),
    ],
)
def test_a_forbidden_import_is_found(links: dict[str, set[str]], found: list[str]) -> None:
    assert forbidden(links) == found


def test_a_special_case_may_import_what_it_is_a_case_of() -> None:
    special = frozenset({("architectures", "sharing")})
    assert forbidden({"architectures": {"sharing"}}, special) == []
    assert forbidden({"sharing": {"architectures"}}, special) == ["sharing imports architectures"]
