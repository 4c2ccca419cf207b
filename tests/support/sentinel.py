"""A Redis master with a replica and three sentinels, for the tests."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.processes import wait_until
from support.redis_tls import RedisTls
from support.services import RedisServer, Server, find_redis, free_port

MASTER = "tagmill"


class SentinelServer(Server):
    """A sentinel on a free port of 127.0.0.1. Two of them agree that a master is down after a second.

    It speaks TLS as the master does. `users` are lines of an ACL file.
    """

    def __init__(self, master: RedisServer, password: str = "", users: str = "") -> None:
        super().__init__()
        self.port = free_port()
        self.password = password
        self.tls = master.tls
        listens = self.tls.configuration(self.port) if self.tls else {"port": self.port}
        lines = ["bind 127.0.0.1", f"dir {self.folder}", *(f"{name} {value}" for name, value in listens.items())]
        lines += [f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2"]
        lines += [f"sentinel down-after-milliseconds {MASTER} 1000", f"sentinel failover-timeout {MASTER} 4000"]
        if master.password:
            lines += [f'sentinel auth-pass {MASTER} "{master.password}"']
        if password:
            lines += [f'requirepass "{password}"', f'sentinel sentinel-pass "{password}"']
        (self.folder / "sentinel.conf").write_text("\n".join([*lines, users]))

    def client(self) -> redis.Redis:
        """Return a client that does not retry."""
        options: dict[str, Any] = {"socket_timeout": 2, "retry": Retry(NoBackoff(), 0)}
        options |= {"ssl": True, **self.tls.client} if self.tls else {}
        return redis.Redis("127.0.0.1", self.port, password=self.password or None, **options)

    def state(self) -> dict[str, Any]:
        """Return what this sentinel says of the master."""
        with self.client() as client:
            return dict(client.sentinel_master(MASTER))

    def _command(self) -> list[str]:
        program = self.tls.command if self.tls else [find_redis()]
        return [*program, str(self.folder / "sentinel.conf"), "--sentinel"]

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.info("server")["process_id"] == self.pid)
        except redis.RedisError:
            return False


class ReplicatedRedis:
    """A master, its replica and three sentinels. `with` starts and ends them.

    `password` and `sentinel_password` are those of the user `default`, `users` and `sentinel_users` lines of ACL files.
    """

    def __init__(
        self,
        *,
        password: str = "",
        sentinel_password: str = "",
        users: str = "",
        sentinel_users: str = "",
        tls: RedisTls | None = None,
    ) -> None:
        self.password = password
        self.sentinel_password = sentinel_password
        self._users = users
        self._sentinel_users = sentinel_users
        self._tls = tls

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            options: dict[str, Any] = {"password": self.password, "users": self._users, "tls": self._tls}
            first = stack.enter_context(RedisServer(appendonly=True, **options))
            second = RedisServer(appendonly=True, master=first, **options)
            self.servers = [first, stack.enter_context(second)]
            made = [SentinelServer(first, self.sentinel_password, self._sentinel_users) for _ in range(3)]
            self.sentinels = [stack.enter_context(sentinel) for sentinel in made]
            self._stack = stack.pop_all()
        wait_until(lambda: all(map(_is_complete, self.sentinels)), 60, "the sentinels to know each other")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The value of TAGMILL_BROKER_URL, with the users `default`."""
        return self.url_of(("", self.password), ("", self.sentinel_password))

    def url_of(self, login: tuple[str, str], sentinel_login: tuple[str, str]) -> str:
        """Return the value of TAGMILL_BROKER_URL with these users and passwords."""
        user, password = (quote(text, safe="") for text in login)
        hosts = ";".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        query = {"master_name": MASTER, "sentinel_username": sentinel_login[0], "sentinel_password": sentinel_login[1]}
        given = {name: text for name, text in query.items() if text} | (self._tls.client if self._tls else {})
        return f"sentinel://{f'{user}:{password}@' if password else ''}{hosts}/0?{urlencode(given)}"

    @property
    def master(self) -> RedisServer:
        """The server that the first sentinel takes for the master."""
        port = self.sentinels[0].state()["port"]
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> RedisServer:
        """The other server."""
        return next(server for server in self.servers if server is not self.master)

    def cut_replica(self) -> None:
        """Stop the replica so that it gets nothing that is written from now on. SIGCONT lets it go on."""
        os.kill(self.replica.pid, signal.SIGSTOP)
        with redis.Redis.from_url(self.master.url) as client:
            client.execute_command("CLIENT KILL TYPE replica")  # what was sent already would still arrive

    @contextmanager
    def failover(self) -> Iterator[None]:
        """Kill the master; after the block wait until all sentinels name the other one, and bring the old one back."""
        old, new = self.master, self.replica
        old.kill()
        try:
            yield
            wait_until(lambda: all(one.state()["port"] == new.port for one in self.sentinels), 60, "a new master")
        finally:
            new.master, old.master = None, new  # the sentinels would see to it after ten seconds
            old.start()
        wait_until(lambda: _is_replica(old), 60, "the former master to be a replica")


def _is_replica(server: RedisServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        found = client.info("replication")
    return bool(found["role"] == "slave" and found["master_link_status"] == "up")


def _is_complete(sentinel: SentinelServer) -> bool:
    state = sentinel.state()
    return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)
