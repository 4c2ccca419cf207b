"""What waits in a broker, for tests to look at."""

from celery import Celery

from tagmill.broker import Priority, open_channel, queue_length


def waiting(app: Celery, queue: str, priority: Priority | None = None) -> int:
    """Return how many messages wait, of one priority or of all."""
    with open_channel(app) as channel:
        return queue_length(channel, queue, priority)
