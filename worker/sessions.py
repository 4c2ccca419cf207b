"""The sessions of one process: each bundle loaded once, when its first batch comes."""

import threading
import time
from pathlib import Path
from typing import Protocol, Self

from tagmill.settings import Settings
from worker.loading import load
from worker.session import Session, resolve


class BundleFiles(Protocol):
    """Where bundles lie: the shared store, or the files named on a command line."""

    def path(self, sha256: str) -> Path:
        """Return the file whose sha256 this is, or raise BundleError."""
        ...


class Sessions:
    """Loaded bundles by sha256, shared by all threads."""

    def __init__(self, files: BundleFiles, device: str, threads: int, settings: Settings | None = None) -> None:
        """With `settings` each bundle is loaded as they and `tagmill bench` say, and `threads` do not count."""
        self._files = files
        self._device = device
        self._threads = threads
        self._settings = settings
        self._loaded: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._loading_since: float | None = None

    @classmethod
    def of(cls, settings: Settings, files: BundleFiles) -> Self:
        """Return those of a worker."""
        return cls(files, settings.device, settings.inference_threads, settings)

    def get(self, sha256: str) -> Session:
        """Return the loaded bundle; raises BundleError or ConfigurationError where it cannot be."""
        with self._lock:
            if sha256 not in self._loaded:
                path = self._files.path(sha256)
                self._loading_since = time.monotonic()
                try:
                    self._loaded[sha256] = self._load(path, sha256)
                finally:
                    self._loading_since = None
            return self._loaded[sha256]

    def _load(self, path: Path, sha256: str) -> Session:
        if self._settings is None:
            return Session(path, self._device, self._threads)
        return load(path, sha256, self._settings, resolve(self._device))

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
