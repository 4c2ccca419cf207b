"""Run commands of `tagmill` in processes of their own that have imported most of what they need.

To import Celery, SQLAlchemy and numpy takes a core over a second, and the tests run many hundred commands. A server
imports them once and forks for each command. What the command does, its arguments, environment, working directory,
output and exit code are those of a new process.
"""

import array
import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

#: with all that they import; none of them loads an inference library or starts a thread
MODULES = (
    "export.cli.model",
    "producer.cli.results",
    "producer.cli.run",
    "producer.cli.submit",
    "tagmill.broker.app",
    "tagmill.cli.audit",
    "tagmill.cli.db",
    "tagmill.cli.exit",
    "worker.cli.worker",
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
        ours, theirs = socket.socketpair()
        with ours, theirs, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            files = array.array("i", [theirs.fileno(), out.fileno(), err.fileno()])
            self._control.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
            theirs.close()
            ours.settimeout(timeout)
            with ours.makefile("rw") as said:
                said.write(json.dumps([command, env, str(cwd or Path.cwd())]) + "\n")
                said.flush()
                pid = int(said.readline())
                try:
                    code = int(said.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(command, timeout, _text(out), _text(err)) from None
            return Ended(code, _text(out), _text(err))


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


def _serve(control: socket.socket) -> None:
    """Fork for each command. Return in the process of a command, and exit in the server when its client is gone."""
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


def _begin(connection: int, out: int, err: int) -> None:
    """Fork the process of the command and return in it; say its exit code in this one."""
    with socket.socket(fileno=connection) as client, client.makefile("rw") as said:
        command, env, folder = json.loads(said.readline())
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


def _run() -> None:
    """Run the command of `sys.argv` and end the process, without the half second that tearing all modules down takes."""
    from tagmill.cli.main import main

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
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _run()
