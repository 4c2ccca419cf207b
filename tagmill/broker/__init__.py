"""The queue: the Celery application, its one message, publishing, and the recovery of lost messages."""
