"""A Redis, a PostgreSQL and supervised workers: real processes, into which faults are injected."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import support.faults.sitecustomize as faults
from chaos.journal import install_journal
from chaos.slow.sitecustomize import SECONDS
from sqlalchemy import Engine
from support.processes import TAGMILL, children, environment, wait_until
from support.services import PostgresServer, RedisServer, create_database

from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.registry.models import register
from tagmill.registry.store import ModelStore
from worker.inference.session import Session
from worker.supervision.process import NAME_VARIABLE, end_with_parent

#: PYTHONPATH of a worker: its sitecustomize makes images slow, or kills the worker
PRELOAD = (Path(__file__).parent / "slow", Path(faults.__file__).parents[2])
#: seconds until a supervisor that ended is restarted, as by systemd with RestartSec=1
RESTART_SECONDS = 1.0
#: seconds that a worker has to finish its batches
STOP_SECONDS = 30.0


class Redis(RedisServer):
    """A Redis that keeps its data through `kill`, until `lose_data` removes it."""

    def __init__(self) -> None:
        super().__init__(appendonly=True)
        self._lost = False

    def lose_data(self) -> None:
        """Remove the data that a stopped server would load at its start."""
        kept = list(self.folder.glob("appendonly*"))
        # After a loss, Redis has no file again until something is written.
        assert kept or self._lost, "a Redis with AOF keeps a file or, since version 7, a folder of this name"
        self._lost = True
        for path in kept:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Database(PostgresServer):
    """A PostgreSQL that stops as in a crash: `stop` is an "immediate" shutdown. It has room for many workers."""

    stop_signal = signal.SIGQUIT

    def _command(self) -> list[str]:
        return [*super()._command(), "-cmax_connections=500"]


@dataclass(frozen=True)
class Child:
    """The worker process, a child of the supervisor."""

    pid: int
    #: the start of the owner token of each batch that it has claimed
    name: str


class SupervisedWorker:
    """`tagmill worker start`, with its log in a file."""

    def __init__(self, name: str, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._env = dict(env)
        self._log = log
        self._ended: float | None = None
        self.start()

    def start(self) -> None:
        """Start the supervisor, which starts its worker. It ends when this process ends, for whatever reason."""
        self._ended = None
        with self._log.open("ab") as out:
            self.supervisor = subprocess.Popen(
                [TAGMILL, "worker", "start", "--name", self.name],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: end_with_parent(signal.SIGTERM),
            )

    def restart_ended(self) -> None:
        """Restart a supervisor that ended more than `RESTART_SECONDS` ago."""
        if self.supervisor.poll() is None:
            return
        if self._ended is None:
            self._ended = time.monotonic()
        elif time.monotonic() - self._ended > RESTART_SECONDS:
            self.start()

    def child(self) -> Child | None:
        """Return the worker process, or None while there is none."""
        for pid in children(self.supervisor.pid):
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended
            for variable in variables:
                key, _, value = variable.partition(b"=")
                if key.decode() == NAME_VARIABLE:
                    return Child(pid, value.decode())
        return None

    @property
    def log(self) -> str:
        """The log up to now."""
        return self._log.read_text(errors="replace")

    def wait_stopped(self) -> None:
        """Wait until both processes have ended after SIGTERM. Kill them after `STOP_SECONDS`."""
        child = self.child()
        if child is not None:
            send(child.pid, signal.SIGCONT)
        try:
            self.supervisor.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait()
            if child is not None:
                send(child.pid, signal.SIGKILL)


class Services:
    """The Redis and the PostgreSQL of a chaos run. `with` starts and ends them."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.redis = stack.enter_context(Redis())
            self.database = stack.enter_context(Database())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class Cluster:
    """Workers on a new database of the services, with one registered bundle, `chaos`. `with` starts and ends them."""

    def __init__(
        self,
        services: Services,
        folder: Path,
        bundle: Path,
        workers: int,
        settings: Mapping[str, object],
        delay_per_image: float,
    ) -> None:
        self.services = services
        self.folder = folder
        folder.mkdir(parents=True)
        url = create_database(services.database.url)
        self.engine: Engine = connect(url)
        upgrade(self.engine)
        install_journal(self.engine)
        session = Session(bundle)
        ModelStore(folder / "models").add(bundle, session.sha256)
        register(self.engine, session.spec, session.sha256, "chaos")
        addresses = {"database_url": url, "broker_url": services.redis.url, "model_store": folder / "models"}
        self.env = environment(**addresses, device="cpu", log_level="INFO", **settings)
        self.workers: list[SupervisedWorker] = []
        self._names = [f"worker{number}" for number in range(1, workers + 1)]
        preload = os.pathsep.join(map(str, PRELOAD))
        # Celery sets a title of its process where setproctitle is installed. Without the variable, that is written over
        # the environment in /proc, which `SupervisedWorker.child` reads.
        self._worker_env = self.env | {"PYTHONPATH": preload, SECONDS: str(delay_per_image), "SPT_NOENV": "1"}

    def __enter__(self) -> Self:
        self.services.redis.flush()
        try:
            for name in self._names:
                self.workers.append(SupervisedWorker(name, self._worker_env, self.folder / f"{name}.log"))
            ready = 120.0 + 10.0 * len(self.workers)
            wait_until(
                lambda: all(" ready." in worker.log for worker in self.workers), ready, "the workers to be ready"
            )
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def restart_ended(self) -> None:
        """Restart each supervisor that ended a while ago."""
        for worker in self.workers:
            worker.restart_ended()

    def _close(self) -> None:
        # All get the signal first, so that they stop at the same time.
        for worker in self.workers:
            worker.supervisor.terminate()
        for worker in self.workers:
            worker.wait_stopped()
        self.engine.dispose()


def send(pid: int, how: signal.Signals) -> bool:
    """Send a signal. Return False if the process has ended."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return False
    return True
