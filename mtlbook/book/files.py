"""Files that are either whole or absent, and the repository that holds them."""

from pathlib import Path

from mtlbook.errors import UsageError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a killed run, sees the old content or the new, never half.

    Raises:
        UsageError: where the folder can't be written.
    """
    # Of one name, so that what a killed run leaves behind is overwritten by the next.
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose a folder that can be written"
        ) from error


def repository(start: Path) -> Path | None:
    """The repository of the book around a folder, if any: it holds the notebooks."""
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return None


def notebook_of(section: str) -> str:
    """A section's notebook relative to its repository; empty where none is found."""
    root = repository(Path.cwd()) or repository(Path(__file__).parent)
    name = f"{section.replace('.', '_')}_[a-z]*.ipynb"
    found = (
        sorted([*root.glob(f"notebooks/{name}"), *root.glob(f"notebooks/[0-9]*/{name}")])
        if root
        else []
    )
    return found[0].relative_to(root).as_posix() if root and found else ""
