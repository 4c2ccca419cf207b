"""Tell a file that was deleted from a folder that this worker does not have.

A folder that is not mounted is missing or empty, and one that this worker may not read refuses everything. A folder
with other files in it, or a run whose other files can be read, has only lost the file.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmill.locations.schemes import LOCAL
from tagmill.outcomes import ErrorCode
from worker.health.time_limit import within

#: seconds in which a folder has to answer
ANSWER_SECONDS = 10.0
#: codes of a local file that may be the worker's fault
SUSPECT = frozenset({ErrorCode.NOT_FOUND, ErrorCode.FETCH_FAILED, ErrorCode.FETCH_TIMEOUT, ErrorCode.TIMED_OUT})
#: files next to the missing one that are tried
_SIBLINGS = 8
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
#: what a new file system has before anything is written to it; names that begin with a dot do not count either
_OF_EMPTY = {"lost+found"}

#: returns the places of other files of the run
Others = Callable[[], Iterable[str]]


@dataclass(frozen=True)
class FolderFault:
    """A folder that this worker lacks: which allowed folder it is or is below, and what to do."""

    root: str
    detail: str


def file_state(path: str) -> ErrorCode | None:
    """Return None if a file can be read here, else a code that says how it cannot."""
    try:
        return within(ANSWER_SECONDS, lambda: _state(path))
    except TimeoutError:
        return ErrorCode.FETCH_TIMEOUT


def folder_fault(path: str, code: ErrorCode, roots: Sequence[str], others: Others) -> FolderFault | None:
    """Return why a file cannot be read here, if it is the worker's fault; None if only this file is missing or bad.

    `roots` are the folders that may be read. `others` is called only if the folder alone does not tell.
    """
    try:
        return within(ANSWER_SECONDS, lambda: _fault(Path(os.path.realpath(path)), code, roots, others))
    except TimeoutError:
        folder = _root_of(Path(path), map(Path, roots)) or Path(path).parent
        return FolderFault(str(folder), f"{folder}: does not answer on this worker; mount it again")
    except ValueError:  # a NUL, or text that cannot be a file name
        return None


def _fault(path: Path, code: ErrorCode, roots: Sequence[str], others: Others) -> FolderFault | None:
    root = _root_of(path, [Path(os.path.realpath(root)) for root in roots])
    if root is None:
        return None
    root = root.parent if root == path else root  # a single file may be named to `submit`
    folder = path.parent
    while True:
        try:
            names = _names(folder)
            break
        except OSError as error:
            if error.errno not in _NOT_THERE:
                return None if _any_readable(others()) else _unreadable(root, folder, error)
            if folder == root:
                detail = f"{root}: there is no such folder on this worker; mount it at this path"
                return FolderFault(str(root), detail)
            folder = folder.parent
    if not names:
        return FolderFault(str(root), f"{folder}: is empty on this worker; mount it at this path")
    if code is ErrorCode.NOT_FOUND and folder == path.parent:
        return None
    siblings = [str(folder / name) for name in names] if folder == path.parent else []
    if _any_readable(siblings) or _any_readable(other for other in others() if other.startswith(LOCAL)):
        return None
    detail = f"{folder}: this worker can read no file of the run there; mount what the run was submitted from"
    return FolderFault(str(root), detail)


def _root_of(path: Path, roots: Iterable[Path]) -> Path | None:
    """Return the deepest of the folders that a path is in or is."""
    return max((root for root in roots if path.is_relative_to(root)), key=lambda root: len(root.parts), default=None)


def _names(folder: Path) -> list[str]:
    """Return the first names in a folder that something was put in."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name not in _OF_EMPTY:
                names.append(entry.name)
            if len(names) == _SIBLINGS:
                break
    return names


def _any_readable(paths: Iterable[str]) -> bool:
    return any(_readable(path) for path in paths)


def _readable(path: str) -> bool:
    return _state(path) is None


def _state(path: str) -> ErrorCode | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)
    except OSError as error:  # also for a folder
        return ErrorCode.NOT_FOUND if error.errno in _NOT_THERE else ErrorCode.FETCH_FAILED
    except ValueError:
        return ErrorCode.NOT_FOUND
    return None


def _unreadable(root: Path, folder: Path, error: OSError) -> FolderFault:
    reason = error.strerror or type(error).__name__
    return FolderFault(
        str(root), f"{folder}: {reason} on this worker; mount it again, or let the worker's user read it"
    )
