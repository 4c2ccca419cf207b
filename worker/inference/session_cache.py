"""The sessions of one process: each bundle loaded once, when it is asked for first."""

import threading
import time
from dataclasses import dataclass

from tagmill.settings import Settings
from worker.devices.resolve import resolve
from worker.inference.bundle_files import BundleFiles
from worker.inference.session import Session
from worker.inference.session_loader import load


@dataclass
class _Loading:
    """A bundle that is being loaded, since when."""

    since: float


class SessionCache:
    """Loaded bundles by sha256, shared by all threads."""

    def __init__(self, settings: Settings, files: BundleFiles) -> None:
        self._settings = settings
        self.files = files
        self._loaded: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._loading: _Loading | None = None

    def get(self, sha256: str) -> Session:
        """Return the loaded bundle; raises BundleError or ConfigurationError where it cannot be."""
        with self._lock:
            if sha256 not in self._loaded:
                path = self.files.path(sha256)
                self._loading = _Loading(time.monotonic())
                try:
                    self._loaded[sha256] = load(path, sha256, self._settings, resolve(self._settings.device))
                finally:
                    self._loading = None
            return self._loaded[sha256]

    def cut(self, seconds: float) -> int:
        """Cut off the inference calls that run longer than `seconds`; return how many."""
        return sum(session.calls.cut(seconds) for session in list(self._loaded.values()))

    def longest_call(self) -> float:
        """Return the seconds of the inference call that goes on the longest after it was cut off."""
        return max((session.calls.longest() for session in list(self._loaded.values())), default=0.0)

    def loading(self) -> float:
        """Return since how many seconds a bundle is being loaded; 0 where none is."""
        loading = self._loading
        return 0.0 if loading is None else time.monotonic() - loading.since

    def discount(self, seconds: float) -> None:
        """Do not count these `seconds` to what is in work: until now the process did not run."""
        for session in list(self._loaded.values()):
            session.calls.discount(seconds)
        if (loading := self._loading) is not None:
            loading.since = min(time.monotonic(), loading.since + seconds)
