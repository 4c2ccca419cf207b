"""The sessions of one process: each bundle is found by its sha256 and loaded when it is first used.

A session that no batch asked for in the last half an hour is dropped when a batch next asks for one.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tagmill.bundles.metadata import sha256_of
from tagmill.errors import BundleError, InputError
from tagmill.settings import Settings
from worker.devices.resolve import resolve_device
from worker.inference.session import Session
from worker.inference.session_loader import load

log = logging.getLogger(__name__)

#: seconds after which a session that no batch asked for is dropped
IDLE_SECONDS = 1800.0


class BundleFiles(Protocol):
    """Finds the file of a bundle: the shared model store, or `NamedBundles`."""

    def path(self, sha256: str) -> Path:
        """Return the file with this sha256. Raise BundleError if there is none."""
        ...


class NamedBundles:
    """Bundle files named on a command line."""

    def __init__(self, files: dict[str, Path]) -> None:
        """`files`: sha256 -> path."""
        self.files = files

    @classmethod
    def of(cls, paths: Iterable[Path]) -> "NamedBundles":
        """Return the bundles at these paths. Raise InputError if the same bundle is named twice."""
        named = list(paths)
        files = {sha256_of(path): path for path in named}
        if len(files) < len(named):
            raise InputError("the same bundle is named twice")
        return cls(files)

    def path(self, sha256: str) -> Path:
        """Return the file with this sha256. Raise BundleError if it was not named."""
        if sha256 not in self.files:
            raise BundleError(f"bundle {sha256[:12]} of this run is not among those named with --bundle")
        return self.files[sha256]


@dataclass
class _Loading:
    """The loading of a bundle, which began at `since` in monotonic seconds."""

    since: float


class SessionCache:
    """Loaded bundles by sha256, shared by all threads."""

    def __init__(self, settings: Settings, files: BundleFiles) -> None:
        self._settings = settings
        self.files = files
        self._loaded: dict[str, Session] = {}
        #: sha256 -> monotonic seconds at which it was last asked for
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()
        self._loading: _Loading | None = None

    def get(self, sha256: str, title: str | None = None) -> Session:
        """Return the session of a bundle. Raise BundleError or ConfigurationError if it cannot be loaded.

        `title`, its NAME@VERSION, is for the log.
        """
        with self._lock:
            self._asked[sha256] = time.monotonic()
            self._drop_idle()
            if sha256 not in self._loaded:
                self._loading = _Loading(time.monotonic())
                try:
                    path = self.files.path(sha256)
                    device = resolve_device(self._settings.device)
                    self._loaded[sha256] = load(path, sha256, self._settings, device, title)
                except BundleError as error:
                    error.sha256 = sha256
                    raise
                finally:
                    self._loading = None
            return self._loaded[sha256]

    def _drop_idle(self) -> None:
        """Drop what nobody asked for lately: its memory is free once the last batch with it has ended."""
        before = time.monotonic() - IDLE_SECONDS
        for sha256 in [sha256 for sha256 in self._loaded if self._asked[sha256] < before]:
            log.info("bundle dropped", extra={"action": "bundle_dropped", "sha256": sha256, "reason": "unused"})
            del self._loaded[sha256]

    def loaded(self) -> frozenset[str]:
        """Return the sha256 of the bundles that are loaded."""
        return frozenset(self._loaded)

    def providers(self) -> dict[str, str]:
        """Return sha256 -> what ONNX Runtime or OpenVINO run on, of the bundles that are loaded."""
        return {sha256: session.provider for sha256, session in list(self._loaded.items())}

    def cancel_stalled(self, seconds: float) -> int:
        """Cancel the inference calls that have run longer than `seconds`; return how many."""
        return sum(session.calls.cancel_stalled(seconds) for session in list(self._loaded.values()))

    def longest_overdue_call(self) -> float:
        """Return the most seconds that a call has run since it was cancelled; 0 if there is no such call."""
        return max((session.calls.longest_overdue() for session in list(self._loaded.values())), default=0.0)

    def seconds_loading(self) -> float:
        """Return for how many seconds a bundle has been loading; 0 if none is loading."""
        loading = self._loading
        return 0.0 if loading is None else time.monotonic() - loading.since

    def discount(self, seconds: float) -> None:
        """Do not count the last `seconds`, in which the process was suspended, as time of calls and loading."""
        for session in list(self._loaded.values()):
            session.calls.discount(seconds)
        if (loading := self._loading) is not None:
            loading.since = min(time.monotonic(), loading.since + seconds)
