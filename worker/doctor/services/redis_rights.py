"""What this Redis user may do, tried with harmless calls on keys of its own and with reads of Celery's."""

from typing import Any
from uuid import uuid4

#: seconds after which the key that is written to is gone, should the check be killed
_KEPT_SECONDS = 60


def missing_rights(channel: Any, queue: str) -> list[str]:
    """Return the commands and keys that this user is refused, of those that workers and producers need.

    ACL DRYRUN would tell without a call, but is a right of administrators.
    """
    from redis.exceptions import NoPermissionError, ResponseError

    client = channel.client
    own = f"{queue}:doctor-{uuid4().hex}"
    refused: list[str] = []
    # Nobody listens to this channel, whose prefix is that of the channels of workers and Flower.
    channels = [("PUBLISH", f"{channel.keyprefix_fanout}doctor", "")]
    for words in (*_on_own_keys(own), *_on_celery_keys(queue), *channels):
        try:
            client.execute_command(*words)
        except NoPermissionError as failure:
            named = words[0] if "command" in str(failure) else f"{words[0]} {words[1]}"
            refused.append(str(named))
        except ResponseError:
            pass  # the call was allowed: its arguments are what it refuses
    return refused


def _on_own_keys(key: str) -> list[tuple[object, ...]]:
    """Return calls on keys that no one else uses, which leave nothing behind."""
    text, hashed, ordered, members = (f"{key}-{kind}" for kind in ("text", "hash", "order", "set"))
    return [
        *((command, key, "1") for command in ("LPUSH", "RPUSH")),
        *((command, key) for command in ("LLEN", "RPOP")),
        ("BRPOP", key, "0.01"),
        ("SET", text, "1", "EX", _KEPT_SECONDS),
        *((command, text) for command in ("GET", "EXISTS")),
        ("PEXPIRE", text, 1000 * _KEPT_SECONDS),
        *(("HSET", hashed, "1", "1"), ("HGET", hashed, "1"), ("HDEL", hashed, "1")),
        *(("ZADD", ordered, 1, "1"), ("ZRANGE", ordered, 0, 1), ("ZRANGEBYSCORE", ordered, 0, 1)),
        ("ZREM", ordered, "1"),
        *(("SADD", members, "1"), ("SMEMBERS", members), ("SREM", members, "1")),
        ("DEL", key, text, hashed, ordered, members),
        *(("INFO", "server"), ("TIME",), ("PING",)),
        *(("WATCH", key), ("UNWATCH",)),
        *(("SCRIPT LOAD", "return 1"), ("SCRIPT EXISTS", "0" * 40), ("EVALSHA", "0" * 40, 0)),
    ]


def _on_celery_keys(queue: str) -> list[tuple[object, ...]]:
    """Return reads of the keys in which Celery keeps messages, bindings and answers."""
    keys = (queue, f"{queue}:seen", "unacked", "unacked_index", "unacked_mutex", f"_kombu.binding.{queue}", "celeryev")
    return [("EXISTS", key) for key in (*keys, "doctor.reply.celery.pidbox")]
