"""Write a file whole or not at all, so that a full disk or Ctrl-C costs nobody the file of yesterday."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tagmill.errors import ConfigurationError

_PROC = Path("/proc")


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file that takes the place of `path` once all is written; what cannot be replaced is written to.

    Raises OSError; the file that was there is left as it was, unless it could not be replaced.
    """
    if not _is_replaceable(path):
        with path.open("w", encoding="utf-8", newline="") as out:
            yield out
        return
    target = path.resolve()  # the file behind a link, not the link
    partial = target.with_name(f".tagmill-{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as out:
            yield out
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _is_replaceable(path: Path) -> bool:
    """Return whether another file can take its place: it is no device or pipe, and its folder takes a new file."""
    if not path.is_file() and (path.exists() or path.is_symlink()):
        return False
    # /dev/stdout and /dev/fd/3: whatever file is behind them, another program has opened it.
    opened_before = any(_PROC in link.parent.resolve().parents for link in _links(path))
    return not opened_before and os.access(path.resolve().parent, os.W_OK)


def _links(path: Path) -> Iterator[Path]:
    """Yield the path and what it leads to, step by step."""
    yield path
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path


def write_whole(path: Path, content: bytes) -> None:
    """Write the file, or leave the one that was there. Raises ConfigurationError where the disk does not take it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: {error.strerror}; make room, or name another folder with --out") from error
