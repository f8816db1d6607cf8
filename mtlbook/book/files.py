"""Files that are either whole or absent."""

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
