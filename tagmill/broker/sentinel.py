"""Find the master that Sentinel knows, and say why there is none: a failover, an outage, or a wrong setting."""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from tagmill.broker.refusal import TLS_ADVICE, tls_refusal
from tagmill.broker_url import SentinelUrl

#: seconds in which a sentinel must answer; the next one is asked after that
ANSWER_SECONDS = 2.0


class SentinelRefusedError(MasterNotFoundError):
    """Raised if the sentinels do not know the master's name, or refuse the login: waiting does not mend it."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


class MasterFinder(Sentinel):
    """redis-py's client of the sentinels, which says why it finds no master."""

    def __init__(self, url: SentinelUrl, **connection: Any) -> None:
        """`connection` are arguments of the connections to Redis, among them its login."""
        asked = sentinel_options(url) | {"retry": Retry(NoBackoff(), 0)}
        super().__init__(url.hosts, sentinel_kwargs=asked, **connection)  # type: ignore[no-untyped-call]

    def discover_master(self, service_name: str) -> Any:
        """Return the master's host and port. Raise MasterNotFoundError, or SentinelRefusedError if waiting is vain."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            raise self._reason(service_name) from None

    def _reason(self, name: str) -> MasterNotFoundError:
        silent: list[str] = []
        refusals: list[tuple[str, str]] = []
        unknown = 0
        for sentinel in self.sentinels:
            try:
                known = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", name)  # type: ignore[no-untyped-call]
            except (AuthenticationError, ResponseError) as error:
                refusals.append((str(error), "check sentinel_password in TAGMILL_BROKER_URL"))
            except RedisError as error:
                if reason := tls_refusal(error):
                    refusals.append((reason, TLS_ADVICE))
                else:
                    silent.append(str(error))
            else:
                if known:
                    return MasterNotFoundError(f"the master {name} is down, and Sentinel has no other one yet")
                unknown += 1
        # One that was set up anew knows no master until somebody tells it.
        if unknown > len(self.sentinels) / 2:
            return SentinelRefusedError(
                f"the sentinels know no master {name}", "correct master_name in TAGMILL_BROKER_URL"
            )
        if refusals:
            reason, advice = refusals[0]
            return SentinelRefusedError(f"a sentinel refuses: {reason}", advice)
        return MasterNotFoundError(f"no sentinel answers: {'; '.join(silent)}")


def client_of(finder: MasterFinder, url: SentinelUrl) -> Redis:
    """Return a client of the master, which is asked for whenever the client connects."""
    client: Redis = finder.master_for(url.master, Redis)  # type: ignore[no-untyped-call]  # redis-py is partly typed
    return client


def sentinel_options(url: SentinelUrl) -> dict[str, Any]:
    """Return redis-py's arguments for connections to the sentinels."""
    options: dict[str, Any] = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    login = {"username": url.sentinel_username, "password": url.sentinel_password}
    options |= {name: value for name, value in login.items() if value}
    return options | ({"ssl": True, **dict(url.tls)} if url.tls else {})
