"""The Celery application and the one message it carries: the ids of a batch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import BatchPublishError, ChannelError, OperationalError

from tagmill.errors import ConfigurationError
from tagmill.settings import Settings

TAG_BATCH = "worker.tag_batch"
#: messages sent in one round trip
PUBLISH_CHUNK = 200


class Priority(IntEnum):
    """Which messages are served first; each has a Redis list of its own. Redis serves the lowest number first."""

    #: of a batch that was in work already: it must not wait behind a long queue
    AGAIN = 0
    #: of a run as it was submitted
    NORMAL = 6


@dataclass(frozen=True)
class BatchMessage:
    """What travels through Redis: ids only. Everything else is read from SQL."""

    run: int
    batch: int

    LAYOUT = 1

    def to_json(self) -> dict[str, int]:
        """Return JSON values."""
        return {"layout": self.LAYOUT, "run": self.run, "batch": self.batch}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Raise ValueError for anything but a message of this layout: Redis is input, not ours."""
        if not isinstance(data, dict) or set(data) != {"layout", "run", "batch"} or data["layout"] != cls.LAYOUT:
            raise ValueError("not a batch message of layout 1")
        ids = (data["run"], data["batch"])
        if not all(type(value) is int and 0 < value < 2**63 for value in ids):
            raise ValueError("run and batch must be positive integers")
        return cls(*ids)


def make_app(settings: Settings) -> Celery:
    """Return the Celery application; why each value is what it is stands in ARCHITECTURE.md."""
    app = Celery("tagmill", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        task_reject_on_worker_lost=True,
        task_time_limit=300,
        task_soft_time_limit=240,
        task_default_queue=settings.queue,
        task_create_missing_queues=False,
        task_queues=[Queue(settings.queue)],  # type: ignore[no-untyped-call]  # kombu is partly typed
        task_send_sent_event=False,
        worker_send_task_events=True,
        worker_pool="threads",
        worker_concurrency=settings.concurrency,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=120,
        worker_max_memory_per_child=8_000_000,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        task_publish_retry_policy={"max_retries": 5, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 3},
        broker_transport_options=_transport_options(settings.broker_url),
    )
    return app


def require_shared_broker(settings: Settings) -> Settings:
    """Raise ConfigurationError where the broker is one that lives in this process alone."""
    if settings.broker_url.startswith("memory://"):
        raise ConfigurationError(
            "TAGMILL_BROKER_URL is memory://, which lives in one process; set it to redis://..., or use `tagmill tag`"
        )
    return settings


def publish(app: Celery, batches: Iterable[tuple[int, int]], priority: Priority = Priority.NORMAL) -> None:
    """Send one message for each (run id, batch id), pipelined. An interrupted call is harmless: the reaper repeats.

    Raises kombu's OperationalError where the broker is down or goes away meanwhile.
    """
    try:
        with app.producer_or_acquire() as producer, producer.batch(max_size=PUBLISH_CHUNK):
            for run_id, batch_id in batches:
                app.send_task(
                    TAG_BATCH,
                    args=[BatchMessage(run_id, batch_id).to_json()],
                    producer=producer,
                    priority=int(priority),
                    argsrepr=f"(run={run_id}, batch={batch_id})",
                    kwargsrepr="",
                    ignore_result=True,
                )
    except BatchPublishError as error:
        raise OperationalError(str(error)) from error


@contextmanager
def open_channel(app: Celery) -> Iterator[Any]:
    """Open kombu's channel to the broker. Raises OperationalError where that is away, or goes away meanwhile."""
    connection: Any  # kombu is partly typed
    with app.connection_for_read() as connection:
        try:
            with connection.channel() as channel:
                yield channel
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise OperationalError(str(error)) from error


def queue_length(channel: Any, queue: str, priority: Priority | None = None) -> int:
    """Return how many messages wait in the broker, of one priority or of all."""
    if priority is not None and hasattr(channel, "client"):  # the broker of one process has a single list
        return int(channel.client.llen(channel._q_for_pri(queue, int(priority))))
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except ChannelError:
        return 0  # nothing was ever published


def _transport_options(url: str) -> dict[str, Any]:
    if url.startswith("memory://"):
        return {"polling_interval": 0.005}
    return {
        # The list of a priority is called QUEUE:6; Redis orders nothing itself.
        "sep": ":",
        # A backstop only: leases in SQL bring a dead worker's batches back within seconds.
        "visibility_timeout": 1800,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "health_check_interval": 10,
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    }
