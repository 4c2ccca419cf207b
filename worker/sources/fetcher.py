"""Read the bytes of one image from a location that is not trusted."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tagmill.locations.private_hosts import PrivateHosts
from tagmill.locations.schemes import LOCAL, is_stored, scheme_of
from tagmill.outcomes import ErrorCode, ImageFailure, printable
from tagmill.stores.allowed import AllowedLocations
from worker.sources.download import Download
from worker.sources.http_source import HttpReader
from worker.sources.limits.limiter import HostLimiter
from worker.sources.stores.remote_reader import RemoteReader
from worker.sources.terms import Terms

_CHUNK_BYTES = 2**20
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
#: a symlink that appeared after the path was resolved; a socket or a device without a driver
_NOT_A_PLAIN_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV}


@dataclass(frozen=True)
class FetchLimits:
    """Limits of fetching one image, and what hosts are asked and told."""

    max_bytes: int
    #: seconds for everything together, from connecting through redirects and retries to the last byte
    timeout: float
    allow_private_hosts: PrivateHosts | bool = False
    #: open at the same time to one host
    connections: int = 16
    #: User-Agent of requests; `{version}` stands for the version of Tagmill
    user_agent: str = "tagmill/{version}"

    def http_reader(self, limiter: HostLimiter | None = None) -> HttpReader:
        """Return a reader of URLs with these limits. `limiter` keeps those of runs."""
        private = PrivateHosts.parse(self.allow_private_hosts)
        return HttpReader(self.max_bytes, self.timeout, self.connections, private, self.user_agent, limiter)


@dataclass(frozen=True)
class FileState:
    """What distinguishes a local file from a changed one, at the moment when its status was read."""

    #: hash of its path, size, inode and times, in 32 hexadecimal digits
    identity: str
    #: when it was changed last, its content or anything else, in Unix seconds
    changed_at: float


@dataclass(frozen=True)
class Fetched:
    """The bytes of an image and, for a local file, its state after it was read."""

    data: bytes
    state: FileState | None


class Fetcher:
    """Reads paths below folders, locations of stores below prefixes, and URLs. One instance serves all threads."""

    def __init__(self, roots: Sequence[Path | str], limits: FetchLimits, http: HttpReader | None = None) -> None:
        """`roots` are folders, and prefixes such as `s3://bucket/2026/`.

        `http` is the reader that the fetchers of a process share: hosts have one pace in it.
        """
        prefixes = [root for root in map(str, roots) if is_stored(root)]
        self._roots = tuple(str(Path(root).resolve()) for root in roots if str(root) not in prefixes)
        self._limits = limits
        #: reads everything that is not a file of this machine
        self.remote = RemoteReader(http or limits.http_reader(), limits.max_bytes, AllowedLocations(prefixes))

    def fetch(self, uri: str, terms: Terms | None = None) -> Fetched:
        """Return the bytes at a location, whatever is known of them. Raise ImageFailure if they cannot be read."""
        if uri.startswith(LOCAL):
            return self._read_file(uri)
        if scheme_of(uri) is None:
            detail = f"{printable(uri)}: is a relative path; producers write absolute ones"
            raise ImageFailure(ErrorCode.FORBIDDEN_LOCATION, detail)
        answer = Download(uri, self.remote, terms).read()
        assert answer.data is not None, "these terms have no conditions"
        return Fetched(answer.data, None)

    def state(self, path: str) -> FileState:
        """Return the state of a file below a root without opening it. Raise ImageFailure if it is not below a root."""
        try:
            real = os.path.realpath(path)
            self._check_root(real, path)
            return _state(path, Path(real).lstat())
        except (OSError, ValueError) as error:
            raise _file_failure(error, path) from error

    def _read_file(self, path: str) -> Fetched:
        deadline = time.monotonic() + self._limits.timeout
        with self._opened(path) as descriptor:
            data = self._read_descriptor(descriptor, path, deadline)
            return Fetched(data, _state(path, os.fstat(descriptor)))

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        try:
            descriptor = self._open(path)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise _file_failure(error, path) from error

    def _open(self, path: str) -> int:
        """Return a descriptor of a file below a root. Never wait for the writer of a fifo."""
        real = os.path.realpath(path)
        self._check_root(real, path)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(real, flags)
        try:
            # Before it was opened, a folder of the path may have become a link that leads out: check the opened file.
            # Without /proc (macOS) the path is resolved a second time, which leaves a smaller gap.
            proc = f"/proc/self/fd/{descriptor}"
            self._check_root(str(Path(proc).readlink()) if os.path.lexists(proc) else os.path.realpath(real), path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check_root(self, real: str, path: str) -> None:
        if not any(real == root or real.startswith(f"{root.rstrip('/')}/") for root in self._roots):
            # Raised whether or not the file exists, so that it reveals nothing about files outside the roots.
            raise ImageFailure(ErrorCode.FORBIDDEN_LOCATION, f"{printable(path)}: is below none of the allowed folders")

    def _read_descriptor(self, descriptor: int, path: str, deadline: float) -> bytes:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ImageFailure(ErrorCode.NOT_AN_IMAGE, f"{printable(path)}: is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise ImageFailure(ErrorCode.FORBIDDEN_LOCATION, f"{printable(path)}: is not a regular file")
        chunks: list[bytes] = []
        size = 0
        # The file may grow while it is read, and a network drive may stall.
        while max(size, status.st_size) <= self._limits.max_bytes:
            if time.monotonic() >= deadline:
                raise ImageFailure(
                    ErrorCode.FETCH_TIMEOUT, f"{printable(path)}: not read in {self._limits.timeout:g} s"
                )
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
        detail = f"{printable(path)}: is larger than {self._limits.max_bytes} bytes"
        raise ImageFailure(ErrorCode.TOO_MANY_BYTES, detail)


def _file_failure(error: OSError | ValueError, path: str) -> ImageFailure:
    if not isinstance(error, OSError):  # a NUL, or text that cannot be encoded as a file name
        return ImageFailure(ErrorCode.NOT_FOUND, f"{printable(path)}: cannot be a file name")
    if error.errno in _NO_SUCH_FILE:
        return ImageFailure(ErrorCode.NOT_FOUND, f"{printable(path)}: no such file")
    if error.errno in _NOT_A_PLAIN_FILE:
        return ImageFailure(ErrorCode.FORBIDDEN_LOCATION, f"{printable(path)}: is not a regular file")
    return ImageFailure(ErrorCode.FETCH_FAILED, f"{printable(path)}: {error.strerror or type(error).__name__}")


def _state(path: str, status: os.stat_result) -> FileState:
    facts = f"{path}\0{status.st_size}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    return FileState(hashlib.sha256(facts.encode()).hexdigest()[:32], max(status.st_mtime, status.st_ctime))
