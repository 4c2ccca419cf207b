"""The queue on Redis: the Celery application, its one message, and the recovery of lost messages."""
