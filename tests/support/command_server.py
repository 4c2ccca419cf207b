"""Run commands of `tagmill` in processes of their own that have imported most of what they need.

To import Celery, SQLAlchemy and numpy takes a core over a second, and the tests run many hundred commands and workers.
A server imports them once and forks for each. What the command does, its arguments, environment, working directory,
output and exit code are those of a new process. The processes that it starts itself are not forked here.
"""

import array
import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

#: with all that they import; none of them loads an inference library or starts a thread
MODULES = (
    "celery.bin.worker",
    "export.cli.model",
    "producer.cli.results",
    "producer.cli.run",
    "producer.cli.submit",
    "tagmill.broker.app",
    "tagmill.cli.audit",
    "tagmill.cli.db",
    "tagmill.cli.exit",
    "worker.batch",
    "worker.cli.celery",
    "worker.cli.worker",
    "worker.connections.redis_channel",
    "worker.pipeline.tagger",
    "worker.reaping",
    "redis",
    "psycopg",
)
#: what Python and its libraries read when they start; a command with others than the server's needs a new process
READ_AT_START = ("PYTHON", "LANG", "LC_", "OMP_")


class Ended(NamedTuple):
    """What a command left."""

    code: int
    stdout: bytes
    stderr: bytes


class Running:
    """A process of the server, as `subprocess.Popen` has it."""

    def __init__(self, command: list[str], connection: socket.socket) -> None:
        self.args = command
        self.returncode: int | None = None
        self._connection = connection
        self._said = connection.makefile("r")
        self.pid = int(self._said.readline())

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the process has ended. Raise TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._said.readline())
            self._said.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, how: int) -> None:
        """Send a signal to the process if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class CommandServer:
    """A process that forks a process for each command. Threads may call it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        atexit.register(self._control.close)  # the server ends when nobody holds the other end

    def run(self, command: list[str], env: dict[str, str], cwd: Path | None, timeout: float) -> Ended:
        """Run a command to its end. Raise TimeoutExpired, and kill it, if that takes longer than `timeout` seconds."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self._begin(command, env, cwd, (out, err), stays=False)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise subprocess.TimeoutExpired(command, timeout, _text(out), _text(err)) from None
            return Ended(code, _text(out), _text(err))

    def start(self, command: list[str], env: dict[str, str], cwd: Path | None, log: IO[bytes]) -> Running:
        """Start a command that stays, such as a worker, as the leader of a new session."""
        return self._begin(command, env, cwd, (log, log), stays=True)

    def _begin(
        self, command: list[str], env: dict[str, str], cwd: Path | None, output: Sequence[IO[bytes]], *, stays: bool
    ) -> Running:
        ours, theirs = socket.socketpair()
        with theirs:
            files = array.array("i", [theirs.fileno(), *(file.fileno() for file in output)])
            self._control.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        ours.sendall((json.dumps([command, env, str(cwd or Path.cwd()), stays]) + "\n").encode())
        return Running(command, ours)


def same_start(env: dict[str, str]) -> bool:
    """Return whether Python starts the same in this environment as in that of this process."""

    def at_start(variables: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in variables.items() if name.startswith(READ_AT_START)}

    return at_start(env) == at_start(dict(os.environ))


_servers: dict[int, CommandServer] = {}
_starting = threading.Lock()


def command_server() -> CommandServer:
    """Return the server of this process, started at the first call."""
    with _starting:
        if os.getpid() not in _servers:
            _servers[os.getpid()] = CommandServer()
        return _servers[os.getpid()]


def _text(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _serve(control: socket.socket) -> bool:
    """Fork for each command, and exit when the client is gone. Return in the process of a command whether it stays."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the processes that wait for a command leave no zombies
    while True:
        message, files, _, _ = socket.recv_fds(control, 1, 3)
        if not message:
            sys.exit()
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _begin(*files)
        for file in files:
            os.close(file)


def _begin(connection: int, out: int, err: int) -> bool:
    """Fork the process of the command and return in it whether it stays; say its exit code in this one."""
    with socket.socket(fileno=connection) as client, client.makefile("rw") as said:
        command, env, folder, stays = json.loads(said.readline())
        pid = os.fork()
        if pid:
            with suppress(OSError):  # the client gave up
                print(pid, file=said, flush=True)
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=said, flush=True)
            os._exit(0)
    for target, file in ((1, out), (2, err)):
        os.dup2(file, target)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    if stays:
        os.setsid()
    return bool(stays)


def _run(stays: bool) -> None:
    """Run the command of `sys.argv` and end the process.

    One that does not stay ends without the half second that tearing all modules down takes.
    """
    from tagmill.cli.main import main

    if stays:
        main()
    try:
        main()
    except SystemExit as ended:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


if __name__ == "__main__":
    sys.path[0] = str(Path(sys.executable).parent)  # as the script `tagmill` has it
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # a collection would copy the pages of everything
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
