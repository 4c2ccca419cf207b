"""The sessions of one process: each bundle loaded once, when its first batch comes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from worker.session import Session, resolve

#: seconds that ONNX Runtime needs at most for a small bundle on a busy machine
LOADING_SECONDS = 11.0
#: bytes of a bundle that it reads and prepares at least in a second
LOADING_BYTES_A_SECOND = 20e6
#: seconds that the first use of CUDA may take beside
CUDA_SECONDS = 120.0


class BundleFiles(Protocol):
    """Where bundles lie: the shared store, or the files named on a command line."""

    def path(self, sha256: str) -> Path:
        """Return the file whose sha256 this is, or raise BundleError."""
        ...


def loading_seconds(size: int, device: str) -> float:
    """Return how long a bundle of so many bytes may take to load, generously.

    A worker that is killed meanwhile, and its supervisor with it, holds its batches for that long.
    """
    return LOADING_SECONDS + size / LOADING_BYTES_A_SECOND + (0.0 if resolve(device) == "cpu" else CUDA_SECONDS)


class Sessions:
    """Loaded bundles by sha256, shared by all threads."""

    def __init__(
        self,
        files: BundleFiles,
        device: str,
        threads: int,
        before_loading: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`before_loading` is told how many seconds the process may stand still."""
        self._files = files
        self._device = device
        self._threads = threads
        self._before_loading = before_loading
        self._loaded: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._loading_since: float | None = None

    def get(self, sha256: str) -> Session:
        """Return the loaded bundle; raises BundleError or ConfigurationError where it cannot be."""
        with self._lock:
            if sha256 not in self._loaded:
                path = self._files.path(sha256)
                # ONNX Runtime holds Python's lock while it loads: no other thread gets on meanwhile.
                self._before_loading(loading_seconds(path.stat().st_size, self._device))
                self._loading_since = time.monotonic()
                try:
                    self._loaded[sha256] = Session(path, self._device, self._threads)
                finally:
                    self._loading_since = None
            return self._loaded[sha256]

    def cut(self, seconds: float) -> int:
        """Cut off the inference calls that run longer than `seconds`; return how many."""
        return sum(session.calls.cut(seconds) for session in list(self._loaded.values()))

    def longest_call(self) -> float:
        """Return the seconds of the inference call that runs the longest."""
        return max((session.calls.longest() for session in list(self._loaded.values())), default=0.0)

    def loading(self) -> float:
        """Return since how many seconds a bundle is being loaded; 0 where none is."""
        since = self._loading_since
        return 0.0 if since is None else time.monotonic() - since
