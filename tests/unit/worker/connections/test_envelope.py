"""What a worker takes from its queue: the messages that `publish` sends, and nothing else."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from support.services import ExternalRedis, RedisServer

from tagmill.broker.app import make_app
from tagmill.broker.publish import publish
from tagmill.priority import Priority
from tagmill.settings import Settings
from worker.connections.envelope import LONGEST, RefusedMessageError, batch_envelope

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def sent(redis_server: RedisServer | ExternalRedis) -> bytes:
    """The message of batch 5 of run 2, as it is on the queue."""
    publish(make_app(Settings(broker_url=redis_server.url)), [(2, 5)], Priority.URGENT.retry_step)
    with redis.Redis.from_url(redis_server.url) as client:
        (raw,) = client.lrange("tagmill", 0, -1)
    assert isinstance(raw, bytes)
    return raw


def body(*content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


BATCH = {"layout": 1, "run": 2, "batch": 5}


def test_what_publish_sends_is_taken(sent: bytes) -> None:
    envelope = batch_envelope(sent, "tagmill")
    assert json.loads(base64.b64decode(envelope["body"])) == [[BATCH], {}, {}]
    for part, names in (("headers", ("id", "task", "argsrepr")), ("properties", ("delivery_tag", "priority"))):
        for name in names:
            assert envelope[part][name] == json.loads(sent)[part][name]
    assert batch_envelope(json.dumps(envelope).encode(), "tagmill") == envelope  # as when it was restored


@pytest.mark.parametrize("raw", [
    b"junk!", b"12345", b"\xff\xfe\0\1\2", b"[1,2]", b"7", b"null", b'"abc"', b"{}", b"", b"true", b"NaN", b"\0" * 5,
    b"[" * 50_000, b"1" * 50_000, b'{"a":' * 9_000, b"x" * (LONGEST + 1),
])  # fmt: skip
def test_bytes_that_are_no_envelope_are_refused(raw: bytes) -> None:
    with pytest.raises(RefusedMessageError):
        batch_envelope(raw, "tagmill")


@pytest.mark.parametrize("change", [
    *(lambda message, part=part: message.pop(part) for part in ("body", "headers", "properties", "content-type")),
    *(lambda message, part=part, odd=odd: message.update({part: odd})
      for part in ("body", "headers", "properties") for odd in (None, 7, "text", [], {}, [1, 2], {"task": 1})),
    *(lambda message, kind=kind: message.update({"content-type": kind})
      for kind in ("application/x-python-serialize", "application/x-yaml", "text/plain", "application/data", 7, None)),
    *(lambda message, coding=coding: message.update({"content-encoding": coding})
      for coding in ("binary", "base64", "utf-16", [], None)),
    *(lambda message, kind=kind: message["headers"].update(compression=kind)
      for kind in ("application/x-gzip", "application/x-bz2", "application/zstd", 1)),
    *(lambda message, name=name: message["headers"].update(task=name)
      for name in ("celery.backend_cleanup", "worker.other", "", None, 7, ["worker.tag_batch"])),
    *(lambda message, odd=odd: message["headers"].update(id=odd) for odd in (None, 7, "", [], {}, "x" * 1000)),
    *(lambda message, odd=odd: message["properties"].update(delivery_tag=odd) for odd in (None, 7, "", [1], "x" * 999)),
    *(lambda message, odd=odd: message["properties"].update(body_encoding=odd) for odd in (None, "utf-8", "rot13", 3)),
    *(lambda message, odd=odd: message.update(body=body([odd], {}, {})) for odd in (
        *(BATCH | {"run": odd} for odd in (-2, 0, "2", 2.0, True, None, [2], 2**63, "1; DROP TABLE run")),
        *(BATCH | {"batch": odd} for odd in (-5, 0, "5", 5.5, False, None, {})),
        *(BATCH | {"layout": odd} for odd in (0, 2, "1", None)),
        BATCH | {"more": 1}, {"run": 2, "batch": 5}, {"run": 2}, {}, [], "batch 5", 5, None,
        {"__type__": "datetime", "__value__": "never"},
    )),
    *(lambda message, odd=odd: message.update(body=odd) for odd in (
        body(), body([BATCH]), body([BATCH, BATCH], {}, {}), body([], {}, {}), body([BATCH], {"run": 3}, {}),
        body([BATCH], {}, {"callbacks": [{"task": "celery.chain"}]}), body([BATCH], {}, {"chain": [1]}),
        body([BATCH], {}, [1]), body([BATCH], {}, None), "not base64!", base64.b64encode(b"\x80\4N.").decode(),
    )),
])  # fmt: skip
def test_an_envelope_with_an_odd_field_is_refused(sent: bytes, change: Change) -> None:
    message = json.loads(sent)
    change(message)
    with pytest.raises(RefusedMessageError):
        batch_envelope(json.dumps(message).encode(), "tagmill")


def test_fields_that_celery_would_act_on_are_not_taken_over(sent: bytes) -> None:
    message = json.loads(sent)
    message["headers"] |= {"eta": "2999-01-01", "expires": "2000-01-01", "timelimit": ["a", 1], "retries": -1}
    message["headers"] |= {"shadow": [1], "stamps": 7, "stamped_headers": 7, "group": {}, "argsrepr": {"a": 1}}
    message["properties"] |= {"priority": "high", "reply_to": "elsewhere", "correlation_id": [1], "delivery_info": 7}
    headers, properties = (
        batch_envelope(json.dumps(message).encode(), "tagmill")[part] for part in ("headers", "properties")
    )
    known = {"lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "ignore_result"}
    assert (set(headers), headers["argsrepr"]) == (known, "")
    assert properties["delivery_info"] == {"exchange": "", "routing_key": "tagmill"}
    assert (properties["priority"], "reply_to" in properties) == (Priority.NORMAL, False)
