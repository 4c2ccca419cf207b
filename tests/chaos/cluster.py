"""A Redis, a PostgreSQL and supervised workers, each a real process that faults can be done to."""

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
from chaos.journal import keep_journal
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

#: what makes images slow, or deadly, in a worker
PRELOAD = (Path(__file__).parent / "slow", Path(faults.__file__).parents[2])
#: seconds until a supervisor that ended is started again, as by systemd with RestartSec=1
RESTART_SECONDS = 1.0
#: seconds that a worker has to finish what it has in hand
STOP_SECONDS = 30.0


class Redis(RedisServer):
    """A Redis that keeps its data through `kill`, unless that is taken away."""

    def __init__(self) -> None:
        super().__init__(appendonly=True)

    def lose_data(self) -> None:
        """Remove what a stopped server would come back with."""
        kept = list(self.folder.glob("appendonly*"))
        assert kept, "a Redis with AOF keeps a file or, since version 7, a folder of this name"
        for path in kept:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Database(PostgresServer):
    """A PostgreSQL that stops as in a crash: `stop` is its "immediate" shutdown."""

    stop_signal = signal.SIGQUIT


@dataclass(frozen=True)
class Child:
    """The process that tags, one below the supervisor."""

    pid: int
    #: by which the ledger knows what it has in hand
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
        """Start the supervisor, which starts its worker. It ends with this process, however that ends."""
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

    def revive(self) -> None:
        """Start a supervisor that ended a while ago again."""
        if self.supervisor.poll() is None:
            return
        if self._ended is None:
            self._ended = time.monotonic()
        elif time.monotonic() - self._ended > RESTART_SECONDS:
            self.start()

    def child(self) -> Child | None:
        """Return the process that tags, None while there is none."""
        for pid in children(self.supervisor.pid):
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended meanwhile
            for variable in variables:
                key, _, value = variable.partition(b"=")
                if key.decode() == NAME_VARIABLE:
                    return Child(pid, value.decode())
        return None

    @property
    def log(self) -> str:
        """Everything it logged so far."""
        return self._log.read_text(errors="replace")

    def wait_stopped(self) -> None:
        """Return when both processes ended after SIGTERM, cleanly if they let themselves be."""
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
    """The Redis and the PostgreSQL of a chaos run; `with` ends them."""

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
    """Workers on a new database of the services, with one registered bundle, `chaos`; `with` ends them."""

    def __init__(
        self,
        services: Services,
        folder: Path,
        bundle: Path,
        workers: int,
        settings: Mapping[str, object],
        slowness: float,
    ) -> None:
        self.services = services
        self.folder = folder
        folder.mkdir(parents=True)
        url = create_database(services.database.url)
        self.engine: Engine = connect(url)
        upgrade(self.engine)
        keep_journal(self.engine)
        session = Session(bundle)
        ModelStore(folder / "models").add(bundle, session.sha256)
        register(self.engine, session.spec, session.sha256, "chaos")
        own = {"database_url": url, "broker_url": services.redis.url, "model_store": folder / "models"}
        self.env = environment(**own, device="cpu", log_level="INFO", **settings)
        self.workers: list[SupervisedWorker] = []
        self._names = [f"worker{number}" for number in range(1, workers + 1)]
        preload = os.pathsep.join(map(str, PRELOAD))
        self._worker_env = self.env | {"PYTHONPATH": preload, SECONDS: str(slowness)}

    def __enter__(self) -> Self:
        self.services.redis.flush()
        try:
            for name in self._names:
                self.workers.append(SupervisedWorker(name, self._worker_env, self.folder / f"{name}.log"))
            wait_until(lambda: all(" ready." in worker.log for worker in self.workers), 120, "the workers to be ready")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def revive(self) -> None:
        """Start what ended again."""
        for worker in self.workers:
            worker.revive()

    def _close(self) -> None:
        # Told together, so that they end side by side.
        for worker in self.workers:
            worker.supervision.supervisor.terminate()
        for worker in self.workers:
            worker.wait_stopped()
        self.engine.dispose()


def send(pid: int, how: signal.Signals) -> bool:
    """Send a signal; return False where the process ended before."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return False
    return True
