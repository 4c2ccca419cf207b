"""A plain client of the Redis that TAGMILL_BROKER_URL names, for what is not a message."""

from typing import Any

from redis import Redis

from tagmill.broker.sentinel import MasterFinder, client_of
from tagmill.broker_url import is_sentinel, parse_sentinel_url


def open_redis(broker_url: str, timeout: float, **options: Any) -> Redis:
    """Return a client of the Redis, or of the master that Sentinel knows whenever it connects.

    `timeout` is how many seconds Redis may be silent. `options` are further arguments of redis-py. Its calls raise
    the errors of redis-py, which `tagmill.broker.refusal` explains.
    """
    options |= {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if not is_sentinel(broker_url):
        return Redis.from_url(broker_url, **options)
    url = parse_sentinel_url(broker_url)
    login = {"db": url.database, "username": url.username, "password": url.password}
    tls = {"ssl": True, **dict(url.tls)} if url.tls else {}
    return client_of(MasterFinder(url, **login, **tls, **options), url)
