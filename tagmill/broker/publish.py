"""Put messages on the queue, and count those that wait there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery
from kombu.exceptions import BatchPublishError, ChannelError, OperationalError
from sqlalchemy import Engine

from tagmill.broker.app import make_app
from tagmill.broker.message import TAG_BATCH, BatchMessage
from tagmill.broker.refusal import broker_refusal
from tagmill.errors import BrokerRefusedError
from tagmill.ledger.runs.describe import describe
from tagmill.priority import Priority
from tagmill.settings import Settings

#: messages sent in one round trip
PUBLISH_CHUNK = 200


def publish(
    app: Celery,
    batches: Iterable[tuple[int, int]],
    step: int = Priority.NORMAL,
    *,
    engine: Engine | None = None,
) -> None:
    """Send one message for each (run id, batch id), pipelined. With `engine`, Flower shows their images and models.

    `step` is one of `tagmill.priority.STEPS`.
    Raise kombu's OperationalError if the broker is down or goes down, and BrokerRefusedError if it refuses this user.
    An interrupted call is harmless: the reaper publishes the rest.
    """
    described: dict[int, str] = {}
    if engine is not None:
        batches = list(batches)
        described = describe(engine, batches) if batches else {}
    try:
        with app.producer_or_acquire() as producer, producer.batch(max_size=PUBLISH_CHUNK):
            for run_id, batch_id in batches:
                app.send_task(
                    TAG_BATCH,
                    args=[BatchMessage(run_id, batch_id).to_json()],
                    producer=producer,
                    priority=int(step),
                    argsrepr=", ".join(filter(None, (f"run={run_id}, batch={batch_id}", described.get(batch_id)))),
                    kwargsrepr="",
                    ignore_result=True,
                )
    except (BatchPublishError, OperationalError) as error:
        raise _failure(error) from error


def shown_run(run_id: int) -> str:
    """Return the text that the messages of this run contain, and no others."""
    return f'"argsrepr": "run={run_id}, batch='


@contextmanager
def open_channel(app: Celery) -> Iterator[Any]:
    """Yield a kombu channel to the broker. Raise kombu's OperationalError if the broker is down or goes down.

    Raise BrokerRefusedError if it refuses this user or this database. The channel stays open in the application's pool:
    opening one takes as long as half of a pass of the reaper.
    """
    connection: Any  # kombu is partly typed
    with app.connection_or_acquire() as connection:
        try:
            connection.connect()  # no more than once; `default_channel` alone would try again and again
            yield connection.default_channel
        except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
            raise _failure(error) from error


def require_login(settings: Settings) -> None:
    """Raise BrokerRefusedError if the broker refuses this user. One that is down is no error: a worker waits for it."""
    with make_app(settings) as app, suppress(OperationalError), open_channel(app) as channel:
        queue_length(channel, settings.queue, Priority.NORMAL)


def queue_length(channel: Any, queue: str, step: int | None = None) -> int:
    """Return the number of messages that wait in the broker, of one step of `tagmill.priority.STEPS` or of all."""
    if step is not None and hasattr(channel, "client"):  # a broker in memory has a single list
        return int(channel.client.llen(channel._q_for_pri(queue, int(step))))
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except ChannelError:
        return 0  # nothing was ever published


def _failure(error: Exception) -> Exception:
    reason = broker_refusal(error)
    return BrokerRefusedError(reason) if reason else OperationalError(str(error))
