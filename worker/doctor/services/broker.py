"""Redis: whether it answers, keeps what it is given, and lets this user do what Tagmill needs."""

from collections.abc import Iterator, Mapping
from typing import Any

from kombu.exceptions import OperationalError

from tagmill.broker.app import make_app
from tagmill.broker.publish import open_channel
from tagmill.broker_url import shown_hosts
from tagmill.errors import BrokerRefusedError, first_line
from worker.doctor.finding import Finding, Subject, error, ok, skipped, warning
from worker.doctor.services.redis_rights import missing_rights

#: what to do if it does not end in time
LATE = "Redis may be frozen, or a firewall may drop its packets: look at its process, then at the network"
#: the oldest version that Tagmill runs with
_OLDEST = (6, 2)
#: shares of its memory above which Redis is nearly full, and full
_HIGH, _FULL = 0.7, 0.95


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the broker."""
    url = subject.settings.broker_url
    if url.startswith("memory://"):
        advice = "set it to redis://..., unless you only use `tagmill tag`"
        yield warning("TAGMILL_BROKER_URL is memory://, which lives in one process", advice)
        return
    shown = shown_hosts(url)
    with make_app(subject.settings) as app:
        try:
            with open_channel(app) as channel:
                channel.client.ping()
                yield ok(f"Redis at {shown} answers")
                yield from _server(channel.client)
                yield from _rights(channel, subject.settings.queue)
        except BrokerRefusedError as failure:
            yield error(first_line(failure), "correct TAGMILL_BROKER_URL, or the users of Redis")
        except OperationalError as failure:
            yield error(f"Redis at {shown} does not answer: {first_line(failure)}", "start it, or correct the URL")


def _server(client: Any) -> Iterator[Finding]:
    from redis.exceptions import ResponseError

    try:
        facts = client.info()
    except ResponseError as failure:
        yield skipped(f"the state of the server: {first_line(failure)}", "let this user call INFO")
        return
    yield _version(facts)
    yield _persistence(facts)
    yield from _memory(facts)
    if facts.get("role") == "slave":
        advice = "name the master: a replica accepts no writes"
        yield error("this Redis is a replica", advice)


def _version(facts: Mapping[str, Any]) -> Finding:
    shown = str(facts.get("redis_version", ""))
    numbers = tuple(int(part) for part in shown.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        return error(f"version {shown}", "install Redis 6.2 or newer")
    return ok(f"version {shown}")


def _persistence(facts: Mapping[str, Any]) -> Finding:
    wrong = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if facts.get(name, "ok") != "ok"]
    if facts.get("aof_enabled") and wrong:
        return error(f"its append-only file was not written ({', '.join(wrong)})", "free room on Redis's disk")
    if not facts.get("aof_enabled"):
        advice = "set appendonly yes: without it the queue is empty after a restart, until it is filled again from SQL"
        return warning("it keeps nothing over a restart (appendonly no)", advice)
    return ok("it keeps the queue over a restart (appendonly yes)")


def _memory(facts: Mapping[str, Any]) -> Iterator[Finding]:
    most, used, policy = facts.get("maxmemory", 0), facts.get("used_memory", 0), facts.get("maxmemory_policy", "")
    if policy and policy != "noeviction":
        what, advice = f"maxmemory-policy is {policy}", "set noeviction: a Redis that evicts drops messages silently"
        yield error(what, advice) if most else warning(f"{what}, without maxmemory", advice)
    if not most:
        yield ok(f"it uses {used / 1e6:,.0f} MB; maxmemory is not set")
        return
    what, advice = (
        f"it uses {used / 1e6:,.0f} of {most / 1e6:,.0f} MB",
        "raise maxmemory; a full Redis takes no batches",
    )
    if used > _FULL * most:
        yield error(what, advice)
    else:
        yield warning(what, advice) if used > _HIGH * most else ok(what)


def _rights(channel: Any, queue: str) -> Iterator[Finding]:
    missing = missing_rights(channel, queue)
    if missing:
        advice = "give the user the rights in docs/operations/redis.md"
        yield error(f"this user may not: {', '.join(missing)}", advice)
    else:
        yield ok("this user may do what workers and producers need")
