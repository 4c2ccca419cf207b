"""Keeps one `celery worker` process running: starts it again when it dies, passes SIGTERM on, waits for its end."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

from tagmill.errors import ExitCode
from tagmill.settings import Settings
from worker.supervision.process import NAME_VARIABLE, ProcessEnd, end_with_parent, new_name

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
#: a process that ran this long, or had work in hand, did start well: the next pause is short again
HEALTHY_SECONDS = 60.0
#: a process that asked to be started anew is, at once, if it did so after this time; sooner, its limits are too tight
RECYCLE_SECONDS = 10.0


def worker_command(settings: Settings, name: str) -> list[str]:
    """Return the command of the worker process; the same as typing `celery -A worker worker ...`."""
    return [
        *(sys.executable, "-m", "celery", "-A", "worker", "worker"),
        *("--pool", "threads", "--concurrency", str(settings.concurrency), "--queues", settings.queue),
        *("--hostname", f"{name}@%h", "--task-events", "--without-gossip", "--without-mingle"),
    ]


class Supervisor:
    """Runs `command` until it ends by itself or a signal says stop.

    `after_death` is told the name of each process that ended, to free at once what it had in hand; it returns how many
    batches these were.
    """

    def __init__(
        self, command: list[str], environment: dict[str, str], after_death: Callable[[str], int] = lambda name: 0
    ) -> None:
        self._command = command
        self._environment = environment
        self._after_death = after_death
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Return the exit code: 0 after a signal, 78 where the worker's configuration does not fit."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            name = new_name()
            # A session of its own: Ctrl-C reaches the worker through this process alone, once.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment | {NAME_VARIABLE: name},
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM),
            )
            if self._stopping:
                self._process.terminate()
            code = self._process.wait()
            freed = self._after_death(name)
            if self._stopping:
                return ExitCode.DONE
            if code in (ExitCode.CONFIGURATION, ExitCode.USAGE):
                return code
            seconds = time.monotonic() - started
            # A batch that ends its process each time does not keep it here for long: after two it is a suspect.
            pause = FIRST_PAUSE_SECONDS if freed or seconds > HEALTHY_SECONDS else pause
            if code == ProcessEnd.RECYCLED and seconds > RECYCLE_SECONDS:
                log.info("worker starts anew", extra={"action": "worker_recycled"})
                continue
            log.warning("worker ended", extra={"action": "worker_ended", "code": code, "restart_in_seconds": pause})
            self._wait(pause)
            if self._stopping:
                return ExitCode.DONE
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        log.info("stopping after the batches in hand", extra={"action": "worker_stopping", "signal": number})
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(0.1)
