"""The queue: the Celery application, the message it carries, and what was lost of it."""
