"""The contenders: each measures how many seconds it takes to tag a list of images."""

import json
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from sqlalchemy import text
from support.processes import Worker, environment, wait_until
from support.services import PostgresServer, RedisServer, create_database

from benchmarks.support.job import Job, Timed
from producer.publish import publish_run
from tagmill.broker.app import make_app
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.ledger.runs.create import create_run
from tagmill.locations.schemes import is_local
from tagmill.records import Entry
from tagmill.registry.models import register
from tagmill.registry.store import ModelStore
from tagmill.settings import Settings
from worker.inference.session import Session

#: images per message to a Tagmill worker; the default of `tagmill submit`
BATCH_SIZE = 64
#: tables that are emptied before each round, so that no image has a result
RESULTS = (
    "result_mask, further_label, embedding, result, known_file, known_url, catalog_entry, image_failure, "
    "batch_outcome, batch_failure, entry, image_content, batch, run_model, run"
)


class Contender(ABC):
    """One way to tag images. `with` starts and stops the servers and workers that it needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stack = ExitStack()

    @abstractmethod
    def measure(self, job: Job) -> Timed:
        """Tag the images of a job and return the time."""

    def start(self) -> None:  # noqa: B027 - a script needs no servers
        """Start servers and workers."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


class Script(Contender):
    """A module of `benchmarks` that runs a job in a new process in each round."""

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        super().__init__(name)
        self._command = [sys.executable, "-m", f"benchmarks.{module}"]
        self._arguments = arguments

    def measure(self, job: Job) -> Timed:
        """Run the script and return the time that it prints. Raise RuntimeError if it fails."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(asdict(job), file)
            file.flush()
            command = [*self._command, file.name, *self._arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet())
        if done.returncode:
            raise RuntimeError(f"{self.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return Timed(**json.loads(done.stdout.splitlines()[-1]))


class Tagmill(Contender):
    """A Tagmill worker on Redis and PostgreSQL, started before the first round."""

    def __init__(
        self,
        name: str,
        bundles: list[str],
        batch_size: int = BATCH_SIZE,
        postgres: Path | None = None,
        **settings: object,
    ) -> None:
        """`postgres`: a folder of the server's programs; None: the first one that is found."""
        super().__init__(name)
        self._postgres = postgres
        self._bundles = bundles
        self._batch_size = batch_size
        self._settings = settings

    def start(self) -> None:
        """Start Redis, PostgreSQL and `tagmill worker start`."""
        broker = self._stack.enter_context(RedisServer())
        postgres = self._stack.enter_context(PostgresServer(self._postgres))
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        url = create_database(postgres.url)
        given = {"database_url": url, "broker_url": broker.url, "model_store": folder / "models", **self._settings}
        self._engine = connect(url)
        self._stack.callback(self._engine.dispose)
        upgrade(self._engine)
        self._app = make_app(Settings(database_url=url, broker_url=broker.url))
        self._stack.callback(self._app.close)
        store = ModelStore(folder / "models")
        self._models = []
        for bundle in self._bundles:
            session = Session(Path(bundle), "cpu", threads=1)
            store.add(Path(bundle), session.sha256)
            self._models.append(register(self._engine, session.spec, session.sha256))
        log = folder / "worker.log"
        self.worker = self._stack.enter_context(Worker(environment(**given), log))
        self.worker.wait_ready(120)
        self._warm = False

    def measure(self, job: Job) -> Timed:
        """Queue the images and wait for the last row; time from the first message to the last commit."""
        if not self._warm:
            self._warm = True
            self.measure(Job(job.files[: 2 * self._batch_size], job.bundles, job.threads))
        with self._engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {RESULTS} CASCADE"))
        roots = sorted({Path(file).parent for file in job.files if is_local(file)})
        entries = [Entry(file, file) for file in job.files]
        run = create_run(self._engine, "benchmark", entries, self._models, roots, self._batch_size, "tagmill")
        started = time.time()
        publish_run(self._app, self._engine, run)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            left = text("SELECT count(*) FROM batch WHERE status <> 'done'")
            wait_until(lambda: connection.execute(left).scalar_one() == 0, 900, "the run to be done")
            ended, cpu = connection.execute(text("SELECT max(finished_at), sum(cpu_seconds) FROM batch")).one()
            tagged = connection.execute(text("SELECT count(*) FROM run_image WHERE status = 'tagged'")).scalar_one()
        if tagged != len(job.files):
            raise RuntimeError(
                f"{self.name}: {tagged} of {len(job.files)} images were tagged:\n{self.worker.log[-2000:]}"
            )
        return Timed(tagged, ended - started, cpu)


class NaiveCelery(Contender):
    """Celery with one task per image and as many processes as cores."""

    def __init__(self, name: str, bundle: str, engine: str, processes: int) -> None:
        super().__init__(name)
        self._bundle, self._engine, self._processes = bundle, engine, processes

    def start(self) -> None:
        """Start Redis and a worker."""
        broker = self._stack.enter_context(RedisServer())
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        env = quiet() | {"NAIVE_BROKER": broker.url, "NAIVE_BUNDLE": self._bundle, "NAIVE_ENGINE": self._engine}
        self._url = broker.url
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.naive", "worker", "-P", "prefork"]
        command += ["-c", str(self._processes), "--without-gossip", "--without-mingle"]
        self._stack.enter_context(Worker(env, folder / "worker.log", command))
        self._redis = redis.Redis.from_url(broker.url)
        self._stack.callback(self._redis.close)
        self._warm = False

    def measure(self, job: Job) -> Timed:
        """Queue one task per image and wait until all are counted."""
        from benchmarks.peers import naive

        if not self._warm:
            self._warm = True
            self.measure(Job(job.files[:32], job.bundles, job.threads))
        self._redis.set(naive.DONE, 0)
        started = time.perf_counter()
        with naive.app.connection_for_write(self._url) as connection, naive.app.amqp.Producer(connection) as producer:
            for file in job.files:
                naive.tag.apply_async((file,), producer=producer)
        wait_until(lambda: int(self._redis.get(naive.DONE) or 0) >= len(job.files), 900, "the tasks to be done")
        return Timed(len(job.files), time.perf_counter() - started)


def quiet() -> dict[str, str]:
    """Return the environment without Tagmill's settings and with Ray's messages turned off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAGMILL_")}
    return kept | {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
