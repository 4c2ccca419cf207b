"""A Redis master with a replica and three sentinels, for the tests."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.processes import wait_until
from support.services import RedisServer, Server, find_redis, free_port

MASTER = "tagmill"


class SentinelServer(Server):
    """A sentinel on a free port of 127.0.0.1. Two of them agree that a master is down after a second."""

    def __init__(self, master: RedisServer, password: str = "") -> None:
        self.program = find_redis()
        super().__init__()
        self.port = free_port()
        self.password = password
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}"]
        lines += [f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2"]
        lines += [f"sentinel down-after-milliseconds {MASTER} 1000", f"sentinel failover-timeout {MASTER} 4000"]
        if master.password:
            lines += [f'sentinel auth-pass {MASTER} "{master.password}"']
        if password:
            lines += [f'requirepass "{password}"', f'sentinel sentinel-pass "{password}"']
        (self.folder / "sentinel.conf").write_text("\n".join([*lines, ""]))

    def client(self) -> redis.Redis:
        """Return a client that does not retry."""
        options: dict[str, Any] = {"socket_timeout": 2, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis("127.0.0.1", self.port, password=self.password or None, **options)

    def state(self) -> dict[str, Any]:
        """Return what this sentinel says of the master."""
        with self.client() as client:
            return dict(client.sentinel_master(MASTER))

    def _command(self) -> list[str]:
        return [self.program, str(self.folder / "sentinel.conf"), "--sentinel"]

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.info("server")["process_id"] == self.pid)
        except redis.RedisError:
            return False


class ReplicatedRedis:
    """A master, its replica and three sentinels. `with` starts and ends them."""

    def __init__(self, *, password: str = "", sentinel_password: str = "") -> None:
        self.password = password
        self.sentinel_password = sentinel_password

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            first = stack.enter_context(RedisServer(appendonly=True, password=self.password))
            second = RedisServer(appendonly=True, password=self.password, master=first)
            self.servers = [first, stack.enter_context(second)]
            made = [SentinelServer(first, self.sentinel_password) for _ in range(3)]
            self.sentinels = [stack.enter_context(sentinel) for sentinel in made]
            self._stack = stack.pop_all()
        wait_until(lambda: all(map(_is_complete, self.sentinels)), 30, "the sentinels to know each other")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The value of TAGMILL_BROKER_URL."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        hosts = ";".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        more = f"&sentinel_password={quote(self.sentinel_password, safe='')}" if self.sentinel_password else ""
        return f"sentinel://{login}{hosts}/0?master_name={MASTER}{more}"

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
            wait_until(lambda: all(one.state()["port"] == new.port for one in self.sentinels), 30, "a new master")
        finally:
            new.master, old.master = None, new  # the sentinels would see to it after ten seconds
            old.start()
        wait_until(lambda: _is_replica(old), 30, "the former master to be a replica")


def _is_replica(server: RedisServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        found = client.info("replication")
    return bool(found["role"] == "slave" and found["master_link_status"] == "up")


def _is_complete(sentinel: SentinelServer) -> bool:
    state = sentinel.state()
    return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)
