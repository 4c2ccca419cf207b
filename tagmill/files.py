"""Write files atomically: the old file stays until the new one is complete. Also where cached files are."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from tagmill.errors import ConfigurationError

_PROC = Path("/proc")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield an unused path in the folder of `path`; what the block writes there replaces `path` when the block ends.

    The block may write a file, or a folder if `path` is a missing or empty one. The yielded path has the suffix of
    `path`, and no other thread, process or machine gets the same one. On an error or Ctrl-C, what was written is
    removed and `path` is left unchanged. Raise OSError if `path` cannot be replaced.
    """
    temporary = path.with_name(f".tagmill-{token_hex(8)}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends; a device or a pipe is written to directly.

    If `path` is a link, the file behind it is replaced. The mode of a file that is replaced is kept. Raise OSError; the
    old file is then unchanged, unless it could not be replaced and was written to directly.
    """
    if not _is_replaceable(path):
        with path.open("wb") as out:
            yield out
        return
    target = path.resolve()  # the file behind a link, not the link
    with atomic_write(target) as temporary:
        with temporary.open("wb") as out:
            yield out
        if target.exists():
            shutil.copymode(target, temporary)


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write a file of a command that has --out. Raise ConfigurationError if the disk is full or not writable."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; make room, or name another folder with --out") from error


def user_cache() -> Path:
    """Return the folder of what can be downloaded or computed again: ~/.cache/tagmill, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagmill"


def _remove(path: Path) -> None:
    with suppress(OSError):  # the error that ended the writing is the one to report
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_replaceable(path: Path) -> bool:
    """Return whether another file can replace it: it is no device or pipe, and its folder takes a new file."""
    if not path.is_file() and (path.exists() or path.is_symlink()):
        return False
    # /dev/stdout and /dev/fd/3: whatever file is behind them, another program has opened it.
    opened_before = any(_PROC in link.parent.resolve().parents for link in _links(path))
    return not opened_before and os.access(path.resolve().parent, os.W_OK)


def _links(path: Path) -> Iterator[Path]:
    """Yield the path, then the target of each link in turn."""
    yield path
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path
