"""The Celery application and its settings."""

from contextlib import nullcontext
from typing import Any

from celery import Celery
from celery.utils import imports
from kombu.entity import Queue

from tagmill.broker_url import SentinelUrl, is_sentinel, parse_sentinel_url
from tagmill.errors import ConfigurationError
from tagmill.priority import STEPS
from tagmill.settings import Settings

# Celery puts the working directory first on sys.path while it imports a module, and a file there may have any name.
imports.cwd_in_path = nullcontext


def make_app(settings: Settings) -> Celery:
    """Return the Celery application; ARCHITECTURE.md gives the reason for each value."""
    app = Celery("tagmill", broker=_celery_url(settings.broker_url), set_as_current=False, fixups=[])
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
        broker_use_ssl=_sentinel_tls(settings.broker_url),
    )
    return app


def require_shared_broker(settings: Settings) -> Settings:
    """Return the settings. Raise ConfigurationError if the broker exists only inside this process."""
    if settings.broker_url.startswith("memory://"):
        raise ConfigurationError(
            "TAGMILL_BROKER_URL is memory://, which lives in one process; set it to redis://..., or use `tagmill tag`"
        )
    return settings


def _celery_url(url: str) -> str:
    if not is_sentinel(url):
        return url
    from tagmill.broker import sentinel_transport  # loads redis-py

    sentinel_transport.install()
    return parse_sentinel_url(url).first


def _transport_options(url: str) -> dict[str, Any]:
    if url.startswith("memory://"):
        return {"polling_interval": 0.005}
    return _redis_options() | (_sentinel_options(parse_sentinel_url(url)) if is_sentinel(url) else {})


def _sentinel_options(url: SentinelUrl) -> dict[str, Any]:
    from tagmill.broker.sentinel import sentinel_options

    # Flower reads the last two.
    return {"sentinel_url": url, "master_name": url.master, "sentinel_kwargs": sentinel_options(url)}


def _sentinel_tls(url: str) -> dict[str, Any] | None:
    return dict(parse_sentinel_url(url).tls) or None if is_sentinel(url) else None


def _redis_options() -> dict[str, Any]:
    return {
        "sep": ":",
        "priority_steps": list(STEPS),
        # Only a backstop: thanks to the leases in SQL, a dead worker's batches are published again within seconds.
        "visibility_timeout": 1800,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "health_check_interval": 10,
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
    }
