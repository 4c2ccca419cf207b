"""Keep one `celery worker` process running: restart it when it dies, forward SIGTERM, wait for its end."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from tagmill.errors import ExitCode
from tagmill.ledger.fleet.workers import WorkerState
from tagmill.settings import Settings
from worker.supervision.process import NAME_VARIABLE, ProcessEnd, end_with_parent, new_name

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
#: a process that ran this long, or had batches, started well: the next pause is short again
HEALTHY_SECONDS = 60.0
#: a process that asks for a restart after this time gets it at once; sooner, its limits are too tight, so it waits
RECYCLE_SECONDS = 10.0
#: seconds between two reports while no process runs
TELL_SECONDS = 5.0


def worker_command(settings: Settings, name: str) -> list[str]:
    """Return the command of the worker process: `celery -A worker worker ...`, off the working directory."""
    return [
        *(sys.executable, "-P", "-m", "worker", "worker"),
        *("--pool", "threads", "--concurrency", str(settings.concurrency), "--queues", settings.queue),
        *("--hostname", f"{name}@%h", "--task-events", "--without-gossip", "--without-mingle"),
    ]


class Watcher(Protocol):
    """Is told when the process is started, and when it has ended."""

    def started(self) -> None:
        """Note that a process was started."""

    def ended(self, code: int) -> None:
        """Note that the process ended, with what `subprocess` says of it."""


class Supervisor:
    """Runs `command` again and again until SIGTERM or SIGINT, or until it ends with a configuration error.

    `after_death` is called with the name of each process that ended. It frees its batches and returns their number.
    `fit` is called before each start. If it returns False, no process is started, and it is called again after a pause.
    `tell` is called with what this worker does while no process runs that reports it. It returns whether the worker was
    asked to drain: then no further process is started.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        after_death: Callable[[str], int] = lambda name: 0,
        fit: Callable[[], bool] = lambda: True,
        tell: Callable[[WorkerState], bool] = lambda state: False,
        watcher: Watcher | None = None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._after_death = after_death
        self._fit = fit
        self._tell = tell
        self._watcher = watcher
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Run until the end; return the exit code.

        It is 0 after a signal or a drain, and 78 or 2 if the worker's configuration is wrong.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping:
            if not self._fit():
                self._wait(pause, WorkerState.OUT)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            if self._drained(WorkerState.STARTING):
                break
            started = time.monotonic()
            name = new_name()
            # A new session: Ctrl-C reaches the worker once, through this process.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment | {NAME_VARIABLE: name},
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM),
            )
            if self._watcher:
                self._watcher.started()
            if self._stopping:
                self._process.terminate()
            code = self._process.wait()
            if self._watcher:
                self._watcher.ended(code)
            freed = self._after_death(name)
            if self._stopping or code == ProcessEnd.DRAINED:
                return ExitCode.DONE
            if code in (ExitCode.CONFIGURATION, ExitCode.USAGE):
                return code
            seconds = time.monotonic() - started
            # A batch that kills its process each time does so only twice: then it is a suspect.
            pause = FIRST_PAUSE_SECONDS if freed or seconds > HEALTHY_SECONDS else pause
            if code == ProcessEnd.RECYCLED and seconds > RECYCLE_SECONDS:
                log.info("restarting the worker", extra={"action": "worker_recycled"})
                continue
            if code != ProcessEnd.UNFIT:  # which has said why
                log.warning("worker ended", extra={"action": "worker_ended", "code": code, "restart_in_seconds": pause})
            self._wait(pause, WorkerState.OUT if code == ProcessEnd.UNFIT else WorkerState.STARTING)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return ExitCode.DONE

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        log.info("stopping after the current batches", extra={"action": "worker_stopping", "signal": number})
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _wait(self, seconds: float, state: WorkerState) -> None:
        now = time.monotonic()
        end, next_report = now + seconds, now
        while not self._stopping and now < end:
            if now >= next_report:
                self._drained(state)
                next_report = now + TELL_SECONDS
            time.sleep(0.1)
            now = time.monotonic()

    def _drained(self, state: WorkerState) -> bool:
        """Report a state; return whether this worker was asked to end, as by a signal."""
        if self._tell(state) and not self._stopping:
            self._stopping = True
            log.warning("asked to drain", extra={"action": "worker_draining"})
        return self._stopping
