"""A real PgBouncer in front of a PostgreSQL, for the tests. It is on no package index for Python."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from support.services import BrokenServiceError, MissingServiceError, PostgresServer, Server, free_port

#: what this machine's PgBouncer was unpacked into; removed by hand only
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagmill-tests"
#: settings of a transaction pooler with its defaults, whose users need no password
DEFAULTS = {"pool_mode": "transaction", "default_pool_size": "2", "auth_type": "any"}


class PgBouncerServer(Server):
    """A PgBouncer on a free port of 127.0.0.1 in front of `upstream`.

    `databases` are lines of its section of that name; `settings` are added to `DEFAULTS`. `users` maps the names that
    may log in to their passwords.
    """

    def __init__(
        self,
        upstream: PostgresServer,
        databases: str = "",
        users: dict[str, str] | None = None,
        **settings: object,
    ) -> None:
        program, package = find_pgbouncer()
        super().__init__()
        self.port = free_port()
        self._upstream = upstream
        if package:  # a copy, because the user that PgBouncer runs as may not enter the home of root
            shutil.copytree(package, self.folder / "package")
        self._program = self.folder / "package" / program
        here = f"host={upstream.folder} port=5432"
        lines = ["[databases]", databases.format(here=here) or f"* = {here} user=postgres", "[pgbouncer]"]
        options = DEFAULTS | {"listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": ""}
        options |= {"auth_file": self.folder / "users.txt"} | settings
        lines += [f"{name} = {value}" for name, value in options.items()]
        (self.folder / "users.txt").write_text("".join(f'"{name}" "{word}"\n' for name, word in (users or {}).items()))
        (self.folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))
        if user := self._user():
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, user["user"], user["group"])

    def url(self, database: str | None, user: str = "postgres", password: str | None = None) -> str:
        """Return the SQLAlchemy URL of a database behind it."""
        at = URL.create("postgresql", user, password, "127.0.0.1", self.port, database)
        return at.render_as_string(hide_password=False)

    def _command(self) -> list[str]:
        libraries = {str(path.parent) for path in self.folder.glob("package/**/lib*.so.*")}
        path = [f"LD_LIBRARY_PATH={os.pathsep.join(sorted(libraries))}"] if libraries else []
        return ["env", *path, str(self._program), str(self.folder / "pgbouncer.ini")]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 2).close()
        except OSError:
            return False
        return True

    def _user(self) -> dict[str, Any]:
        # The user of the PostgreSQL, whose socket only that user can reach. PgBouncer refuses to run as root, too.
        return self._upstream._user()


def find_pgbouncer() -> tuple[Path, Path | None]:
    """Return the path of an installed pgbouncer, or its path in the folder of an unpacked package, and that folder.

    It is on PATH or in /usr/sbin, where Debian has it; else Debian's package is unpacked into `CACHE`, without root.
    """
    if found := shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer"):
        return Path(found), None
    folder = CACHE / "pgbouncer"
    if not folder.is_dir():
        _unpack(folder)
    return Path("usr/sbin/pgbouncer"), folder


def _unpack(folder: Path) -> None:
    """Fetch Debian's or Ubuntu's pgbouncer with its libraries, and unpack them into `folder`."""
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg"))):
        raise MissingServiceError("these tests need a PgBouncer: install pgbouncer with your system's package manager")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        state = Path(name)
        # Lists of our own: those of the machine may be missing or old, and only root may renew them.
        apt = [f"-oDir::State={state / 'state'}", f"-oDir::Cache={state / 'cache'}", "-oAPT::Sandbox::User="]
        (state / "state" / "lists" / "partial").mkdir(parents=True)
        _run(state, "apt-get", *apt, "-q", "update")
        depends = _run(state, "apt-cache", *apt, "depends", "pgbouncer")
        libraries = set(re.findall(r"^ +Depends: (lib\S+)", depends, re.MULTILINE)) - {"libc6"}
        _run(state, "apt-get", *apt, "-q", "download", "pgbouncer", *sorted(libraries))
        for package in state.glob("*.deb"):
            _run(state, "dpkg", "-x", str(package), str(state / "root"))
        try:
            (state / "root").rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process of pytest-xdist was faster
                raise


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenServiceError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
