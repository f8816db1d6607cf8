"""What installs the book: the package's ranges, the lock, conda's file, CI and the README agree."""

import ast
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, requires
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.project import (
    ROOT,
    importable_dependencies,
    imported,
    package_modules,
    settings,
    tracked_files,
)

LOCK = ROOT / "requirements.txt"
CONDA = ROOT / "environment.yml"
README = ROOT / "README.md"
CI = ROOT / ".ci" / "run"

# The environments that the lock is made for, by what its markers ask.
PYTHONS = ("3.11.9", "3.12.9", "3.13.9")
SYSTEMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
)
ENVIRONMENTS = [
    {"python_version": python.rpartition(".")[0], "python_full_version": python, **system}
    for python, system in product(PYTHONS, SYSTEMS)
]

BOOK = "mtlbook.book."
# What the library imports beside: h5py only when it is needed, with a message for those who do not
# have it, and the errors of requests that pooch, which installs it, raises.
BESIDE = {("mtlbook.data.registry", "requests")}

# Written so that no pattern finds itself in this file.
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com)"
    r"|index[-]url|find[-]links"
)
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|work|tmp|Users)/\w")
STORED_IMAGE = re.compile(r'"image/\w+": "[^"]*"')


def pins() -> list[Requirement]:
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def declared() -> list[Requirement]:
    """The dependencies of the package and of all its extras."""
    project = settings()["project"]
    extras = project["optional-dependencies"].values()
    lines = project["dependencies"] + [line for extra in extras for line in extra]
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != project["name"]]


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


def installed_closure() -> set[str]:
    """The names of everything that this environment needs for the package and all its extras."""
    waiting, seen = [(one.name, frozenset(one.extras)) for one in declared()], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # another extra of it may be missing here, not what it needs
            continue
        waiting += [
            (needed.name, frozenset(needed.extras))
            for needed in map(Requirement, lines)
            if any(applies(needed, {"extra": extra}) for extra in ("", *extras))
        ]
    return {canonicalize_name(name) for name, _ in seen}


def conda_dependencies() -> list[Any]:
    return yaml.safe_load(CONDA.read_text(encoding="utf-8"))["dependencies"]


def test_every_pin_is_one_exact_version() -> None:
    for pin in pins():
        (specifier,) = pin.specifier
        assert specifier.operator == "==", pin
        assert "*" not in specifier.version, pin
        assert pin.url is None, pin


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda one: " ".join(one.values()))
def test_every_dependency_is_pinned_within_its_range(environment: dict[str, str]) -> None:
    versions: dict[str, str] = {}
    for pin in pins():
        if applies(pin, environment):
            assert canonicalize_name(pin.name) not in versions, f"{pin.name} is pinned twice"
            versions[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not pinned"
        assert versions[name] in requirement.specifier, requirement


def test_the_lock_holds_every_transitive_dependency_and_no_other() -> None:
    omitted = set(settings()["tool"]["uv"]["pip"]["no-emit-package"])
    pinned = {canonicalize_name(pin.name) for pin in pins() if applies(pin, {})}
    assert pinned == installed_closure() - omitted


def test_the_lock_names_the_command_that_makes_it() -> None:
    command = LOCK.read_text(encoding="utf-8").splitlines()[1]
    for part in ("uv pip compile pyproject.toml", "--all-extras", "--output-file requirements.txt"):
        assert part in command
    lowest = min(Version(python) for python in PYTHONS)
    assert f"--python-version {lowest.major}.{lowest.minor}" in command


def test_conda_gets_pip_the_lock_and_the_package() -> None:
    assert conda_dependencies()[1:] == ["pip", {"pip": ["-r requirements.txt", '-e ".[book]"']}]


def test_conda_gets_a_python_that_the_package_admits() -> None:
    name, _, version = conda_dependencies()[0].partition("=")
    assert name == "python"
    assert Version(version) in SpecifierSet(settings()["project"]["requires-python"])


def test_the_lock_is_made_for_the_pythons_that_the_package_admits() -> None:
    admitted = SpecifierSet(settings()["project"]["requires-python"])
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in admitted]
    assert minors == [python.rpartition(".")[0] for python in PYTHONS]


@pytest.mark.parametrize("path", [LOCK, CONDA, ROOT / "pyproject.toml"], ids=lambda one: one.name)
def test_what_is_installed_has_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\w+://\S+| @ \S+", text) == []
    assert REGISTRY.findall(text) == []


def test_the_package_imports_only_what_it_declares() -> None:
    """The library its few dependencies, and the book also those of the extras."""
    always = sys.stdlib_module_names | {"mtlbook"}
    library = importable_dependencies() | always
    book = importable_dependencies(frozenset({"book", "cluster"})) | always
    undeclared = [
        f"{module} imports {name}"
        for module, path in package_modules().items()
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name.partition(".")[0] not in (book if f"{module}.".startswith(BOOK) else library)
        and (module, name.partition(".")[0]) not in BESIDE
    ]
    assert undeclared == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    files = tracked_files()
    if not files:
        pytest.skip("this is no git checkout: there is no list of the project's files")
    found = []
    for path in files:
        try:
            text = STORED_IMAGE.sub("", path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:  # an image
            continue
        for pattern in (MACHINE_PATH, REGISTRY):
            found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in pattern.finditer(text)]
    assert found == []


def test_the_pattern_of_machine_paths_finds_one() -> None:
    assert MACHINE_PATH.search("read " + "/" + "home/ada/data")
    assert not MACHINE_PATH.search("figures/home/ada, https://host.org/home/ada")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = README.read_text(encoding="utf-8")
    commands = re.findall(r"^pip install .*&& pytest$", readme, re.MULTILINE)
    assert len(commands) == 1, "the README must give the one command that tests the book"
    assert commands[0] in CI.read_text(encoding="utf-8").splitlines()
    assert os.access(CI, os.X_OK)


def test_links_of_the_readme_lead_to_files() -> None:
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    files = {target.partition("#")[0] for target in targets if "://" not in target}
    assert sorted(file for file in files if not (ROOT / file).exists()) == []
