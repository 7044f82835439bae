"""Files that are either whole or absent: written beside their place and renamed into it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "remove_leftovers", "write_bytes_atomic", "write_text_atomic"]

# what mkstemp makes of the prefix in `atomic_path`
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\..*)?")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place once the block ends without an error.

    The file is flushed to the disk before the rename, so that a crash leaves the old file or the new
    one, never half of either. On an error the temporary file is removed and ``path`` is untouched.
    The temporary name keeps the suffix, which some writers read the format from.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove, and return, the temporary files in and under ``folder`` of writers that were killed.

    Only for a folder that nobody else is writing to.
    """
    left = [path for path in sorted(Path(folder).rglob(".*")) if _TEMPORARY.fullmatch(path.name)]
    for path in left:
        path.unlink()
    return left


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    # mkstemp makes files private to their owner; a result is meant to be read by others
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    temporary.replace(path)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
