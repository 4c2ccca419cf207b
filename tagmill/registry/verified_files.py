"""Which files had their sha256 when they were read last: one that has not changed since then is not read again."""

import os
from collections.abc import Callable
from pathlib import Path


class VerifiedFiles:
    """The files that this process has verified."""

    def __init__(self) -> None:
        #: file -> its inode, size and time of change when it was verified
        self._known: dict[Path, tuple[int, int, int]] = {}

    def ensure(self, file: Path, state: Callable[[Path], os.stat_result], verify: Callable[[], object]) -> Path:
        """Return the file, after a call of `verify` unless it has not changed since the last one.

        `state` returns the state of the file. If it raises OSError, `verify` is called, too: it gets the file, or says
        why it cannot.
        """
        try:
            before = _facts(state(file))
        except OSError:
            before = None
        if before is None or self._known.get(file) != before:
            verify()
            # The state from before it was read: what changed meanwhile is read again.
            self._known[file] = before or _facts(file.stat())
        return file


def _facts(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
