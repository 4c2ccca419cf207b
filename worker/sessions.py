"""The sessions of one process: each bundle loaded once, when its first batch comes."""

import threading
from pathlib import Path
from typing import Protocol

from worker.session import Session


class BundleFiles(Protocol):
    """Where bundles lie: the shared store, or the files named on a command line."""

    def path(self, sha256: str) -> Path:
        """Return the file whose sha256 this is, or raise BundleError."""
        ...


class Sessions:
    """Loaded bundles by sha256, shared by all threads."""

    def __init__(self, files: BundleFiles, device: str, threads: int) -> None:
        self._files = files
        self._device = device
        self._threads = threads
        self._loaded: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, sha256: str) -> Session:
        """Return the loaded bundle; raises BundleError or ConfigurationError where it cannot be."""
        with self._lock:
            if sha256 not in self._loaded:
                self._loaded[sha256] = Session(self._files.path(sha256), self._device, self._threads)
            return self._loaded[sha256]
