"""The metrics and probes of a supervised worker: the supervisor answers, and asks its process.

The supervisor owns the port, so that probes are answered while no process runs. Its process answers on a Unix socket in
a private folder.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from tagmill.errors import ConfigurationError
from tagmill.http.ask import ask
from tagmill.http.endpoints import Answer, serve
from tagmill.settings import Settings
from worker.health.time_limit import within
from worker.probes.liveness import live_answer, silence_limit
from worker.probes.readiness import ready_answer
from worker.supervision.process import PROBES_VARIABLE, ProcessEnd, end_name

log = logging.getLogger(__name__)

#: seconds in which the process has to answer; a probe should wait a few seconds longer
ANSWER_SECONDS = 2.0
#: the same for its metrics
METRICS_SECONDS = 5.0


class Relay:
    """Answers for a worker as long as its supervisor runs. Raise ConfigurationError if the port is busy."""

    def __init__(self, settings: Settings, why_down: Callable[[], str | None] = lambda: None) -> None:
        """`why_down` returns why the worker is out, while no process runs; None if that is not known."""
        self._limit = silence_limit(settings.stall_seconds)
        self._why_down = why_down
        #: whether a process was started and has not ended
        self._running = False
        #: why no process runs, if there is no fault
        self._idle = "starting"
        #: since when the process does not answer, in monotonic seconds
        self._silent_since: float | None = None
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client is partly typed
        self._registry, self._down = CollectorRegistry(), CollectorRegistry()
        ends = "Processes of this worker that ended and were replaced."
        self._ends = Counter("tagmill_worker_restarts", ends, ["code"], registry=self._registry)
        for end in ProcessEnd:
            self._ends.labels(end_name(end))
        Gauge("tagmill_worker_ready", "1 if /ready answers 200.", registry=self._down).set(0)
        pages = {"/metrics": self._metrics, "/live": self._live, "/ready": self._ready}
        self._endpoints = serve(settings.metrics_host, settings.metrics_port, pages)
        self._folder = _private_folder()
        self._socket = self._folder / "probes"

    @property
    def environment(self) -> dict[str, str]:
        """What the process needs in its environment."""
        return {PROBES_VARIABLE: str(self._socket)}

    def started(self) -> None:
        """Note that a process was started."""
        self._silent_since, self._running = None, True

    def ended(self, code: int) -> None:
        """Note that the process ended, with what `subprocess` says of it."""
        self._running, self._idle = False, "the process ended; the next one is started after a pause"
        self._ends.labels(end_name(code)).inc()
        # A socket that nobody answers on: the next process is not yet there, and not stuck.
        with suppress(OSError):
            self._socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the port, and remove the folder."""
        self._endpoints.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, page: str, seconds: float | None = None) -> Answer | None:
        """Return what the process answers; None if none runs, or if it does not answer in time."""
        if not self._running:
            return None
        try:
            answer = ask(self._socket, page, seconds or ANSWER_SECONDS)
        except (FileNotFoundError, ConnectionRefusedError):
            return None  # it starts, or has just ended
        except (OSError, HTTPException):
            self._silent_since = self._silent_since or time.monotonic()
            return None
        self._silent_since = None
        return answer

    def _metrics(self) -> Answer:
        answer = self._ask("/metrics", METRICS_SECONDS)
        rest = generate_latest(self._down) if answer is None else answer.body
        return Answer(rest + generate_latest(self._registry))

    def _live(self) -> Answer:
        if answer := self._ask("/live"):
            return answer
        # That no process runs is a matter of its supervisor, which starts one again: it is not stuck.
        silent = self._silent_seconds()
        return live_answer(f"the process has not answered for {silent:.0f} s" if silent > self._limit else "")

    def _ready(self) -> Answer:
        if answer := self._ask("/ready"):
            return answer
        if not self._running:
            reason = self._fault() or self._idle
        elif silent := self._silent_seconds():
            reason = f"no answer for {silent:.0f} s"
        else:
            reason = "starting"
        return ready_answer({"process": reason})

    def _silent_seconds(self) -> float:
        """Return for how long a process has run that does not answer."""
        since = self._silent_since
        return 0.0 if since is None or not self._running else time.monotonic() - since

    def _fault(self) -> str | None:
        try:
            return within(ANSWER_SECONDS, self._why_down)
        except Exception:  # the database is down: it does not say
            return None


def _private_folder() -> Path:
    try:
        folder = tempfile.mkdtemp(prefix="tagmill-")
        if len(folder) > 80:  # a path of a Unix socket has at most 107 bytes, on macOS 103
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix="tagmill-", dir="/tmp")
    except OSError as error:
        raise ConfigurationError(f"no folder for temporary files ({error.strerror}); set TMPDIR to one") from error
    return Path(folder)
