"""The bundles of a model store elsewhere that this machine keeps: files that all its processes share.

A file is checked against its sha256 before it is used. When a bundle is added, those that were used least recently are
removed until the rest fits. A bundle that was used in the last ten minutes stays: a process may be about to load it.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tagmill.bundles.metadata import sha256_of
from tagmill.errors import BundleError
from tagmill.files import atomic_write

#: seconds since its last use in which a bundle is not removed
IN_USE_SECONDS = 600.0
#: seconds in which a damaged file of the store is not downloaded again, unless it changes
REFUSED_SECONDS = 600.0
#: seconds after which the file of a download that was killed is removed
_LEFT_SECONDS = 86_400.0


class BundleCache:
    """A folder of bundles named `<sha256>.onnx`. The time of access of each file is that of its last use."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` is in bytes."""
        self.folder = folder
        self._limit = limit

    def file(self, sha256: str) -> Path:
        """Return where a bundle is, or would be."""
        return self.folder / f"{sha256}.onnx"

    def find(self, sha256: str) -> Path | None:
        """Return the file of a bundle, and note that it is used; None if there is none. A damaged one is removed."""
        found = self.file(sha256)
        try:
            if sha256_of(found) == sha256:
                self.use(found)
                return found
        except BundleError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
        with suppress(OSError):
            found.unlink()
        return None

    def use(self, file: Path) -> os.stat_result:
        """Note that a bundle is used; return the state of its file. Raise OSError if it is gone."""
        status = file.stat()
        with suppress(OSError):  # a file of another user
            os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))
        return status

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process of this machine at a time download or remove bundles. Raise OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write(self, sha256: str, download: Callable[[Path], None]) -> Path:
        """Have `download` write a bundle to a path, which becomes the file of it. Make room; return the file."""
        target = self.file(sha256)
        with atomic_write(target) as temporary:
            download(temporary)
        self._note(sha256).unlink(missing_ok=True)
        self.use(target)
        self._make_room(target)
        return target

    def refused(self, sha256: str) -> str | None:
        """Return the version of the stored file that was downloaded lately and is not this bundle, else None."""
        note = self._note(sha256)
        try:
            return note.read_text("utf-8") if time.time() - note.stat().st_mtime < REFUSED_SECONDS else None
        except (OSError, UnicodeDecodeError):
            return None

    def refuse(self, sha256: str, version: str) -> None:
        """Note the version of a stored file that is not this bundle: workers look every few seconds if it is there."""
        with suppress(OSError):
            self._note(sha256).write_text(version, "utf-8")

    def _note(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.damaged"

    def _make_room(self, added: Path) -> None:
        now = time.time()
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # another machine may share the folder after all
                status = path.stat()
                if path.name.startswith(".tagmill-") and now - status.st_mtime > _LEFT_SECONDS:
                    path.unlink()
                elif path.suffix == ".onnx" and not path.name.startswith("."):
                    files.append((status.st_atime, status.st_size, path))
        held = sum(size for _, size, _ in files)
        for used, size, path in sorted(files):
            if held <= self._limit or now - used < IN_USE_SECONDS:
                break
            if path != added:
                with suppress(OSError):
                    path.unlink()
                    held -= size
