"""A real PgBouncer in front of a PostgreSQL, for the tests. It is on no package index for Python."""

import os
import signal
import socket
from typing import Any

from sqlalchemy.engine import URL

from support.debian import find_program
from support.services import PostgresServer, Server, free_port

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
        program = find_program("pgbouncer")
        super().__init__()
        self.port = free_port()
        self._upstream = upstream
        # a copy, because the user that PgBouncer runs as may not enter the home of root
        self._program = program.copied(self.folder / "package")
        self._databases = databases or "* = {here} user=postgres"
        self._settings = DEFAULTS | {"listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": ""}
        self._settings |= {"auth_file": self.folder / "users.txt"} | settings
        (self.folder / "users.txt").write_text("".join(f'"{name}" "{word}"\n' for name, word in (users or {}).items()))
        self._configure(upstream)
        if user := self._user():
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, user["user"], user["group"])

    def url(self, database: str | None, user: str = "postgres", password: str | None = None) -> str:
        """Return the SQLAlchemy URL of a database behind it."""
        at = URL.create("postgresql", user, password, "127.0.0.1", self.port, database)
        return at.render_as_string(hide_password=False)

    def lead_to(self, upstream: PostgresServer) -> None:
        """Lead to another server: write its host, and reload."""
        self._configure(upstream)
        os.kill(self.pid, signal.SIGHUP)

    def _configure(self, upstream: PostgresServer) -> None:
        here = f"host={upstream.folder} port=5432"
        lines = ["[databases]", self._databases.format(here=here), "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in self._settings.items()]
        (self.folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))

    def _command(self) -> list[str]:
        return self._program.command(self.folder / "pgbouncer.ini")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 2).close()
        except OSError:
            return False
        return True

    def _user(self) -> dict[str, Any]:
        # The user of the PostgreSQL, whose socket only that user can reach. PgBouncer refuses to run as root, too.
        return self._upstream._user()
