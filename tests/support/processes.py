"""Run the installed command as a user does: one-shot commands and long-running workers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from support.command_server import Running, command_server, same_start
from tagmill.broker.publish import open_channel, queue_length

TAGMILL = str(Path(sys.executable).with_name("tagmill"))


def environment(**settings: object) -> dict[str, str]:
    """Return the environment of a user who set these TAGMILL_ variables and no other."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAGMILL_")}
    return kept | {f"TAGMILL_{name.upper()}": str(value) for name, value in settings.items()} | {"COLUMNS": "200"}


def children(pid: int) -> list[int]:
    """Return the ids of the child processes, none if the process has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def tagmill(
    *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and check its exit code."""
    command, env = [TAGMILL, *map(str, arguments)], env or environment()
    if same_start(env):
        code, *said = command_server().run(command, env, cwd, timeout=240)
        done = subprocess.CompletedProcess(command, code, *(words.decode() for words in said))
    else:
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == expect, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def logged_error(stderr: str) -> str:
    """Return the error of a process that writes a log and said nothing else, as a command would print it."""
    (line,) = stderr.splitlines()
    said = json.loads(line)
    assert (said["level"], said["action"]) == ("error", "ended")
    return f"error: {said['event']}\n"


def tagmill_json(*arguments: object, env: dict[str, str] | None = None, expect: int = 0) -> Any:
    """Run the command with --json and return what it printed."""
    return json.loads(tagmill(*arguments, "--json", env=env, expect=expect).stdout)


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Check ten times a second until the condition holds. Fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


class Worker:
    """A worker process that logs to a file. `with` ends it, with SIGKILL if SIGTERM does not."""

    def __init__(
        self,
        env: dict[str, str],
        log: Path,
        command: list[str] | None = None,
        name: str = "worker",
        cwd: Path | None = None,
    ) -> None:
        self._log = log
        command = command or [TAGMILL, "worker", "start", "--name", name]
        self.process: subprocess.Popen[bytes] | Running
        with log.open("ab") as out:
            if command[0] == TAGMILL and same_start(env):
                self.process = command_server().start(command, env, cwd, out)
            else:
                self.process = subprocess.Popen(
                    command, env=env, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                )

    @classmethod
    def bare(
        cls, env: dict[str, str], log: Path, name: str = "worker", *more: str, cwd: Path | None = None
    ) -> "Worker":
        """Start `tagmill celery worker`, without a supervisor: its pid is that of the worker."""
        celery = [TAGMILL, "celery", "worker", "-P", "threads", "-c", "3"]
        return cls(env, log, [*celery, "-n", f"{name}@%h", "--without-gossip", "--without-mingle", *more])

    @classmethod
    def without(cls, folder: Path, env: dict[str, str], log: Path, name: str = "worker") -> "Worker":
        """Start a supervised worker that sees an empty folder in place of this one, as if it were not mounted."""
        user = ["-r"] if os.geteuid() else []
        script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
        private = ["unshare", "-m", *user, "sh", "-c", script, "sh", str(folder)]
        return cls(env, log, [*private, TAGMILL, "worker", "start", "--name", name])

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill_tree()

    @property
    def log(self) -> str:
        """The log up to now."""
        return self._log.read_text(errors="replace")

    def wait_ready(self, seconds: float = 120) -> None:
        """Return when the worker takes batches."""
        wait_until(lambda: " ready." in self.log or self.process.poll() is not None, seconds, "the worker to be ready")
        assert self.process.poll() is None, self.log

    def kill(self) -> None:
        """End it with SIGKILL, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait(60)

    def stop(self, seconds: float = 60) -> int:
        """End it with SIGTERM and return its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill_tree(self) -> None:
        """End it and what it started with SIGKILL, as a power cut does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


def waiting(app: Celery, queue: str, step: int | None = None) -> int:
    """Return the number of messages on the queue, of one step of its order or of all."""
    with open_channel(app) as channel:
        return queue_length(channel, queue, step)
