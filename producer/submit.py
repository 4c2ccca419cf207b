"""Publish a run that was written to SQL, with one small message per batch."""

from celery import Celery
from sqlalchemy import Engine

from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, publish
from tagmill.ledger.runs import mark_published, queue_of


def publish_run(app: Celery, engine: Engine, run_id: int) -> int:
    """Put every queued batch of a run on the queue; return their number.

    The batches are marked as published first: if a message is lost after that, a worker's reaper publishes it again. If
    the broker lost messages of other runs of the queue, those are published before.
    """
    with open_channel(app) as channel:
        recover_messages(app, channel, engine, queue_of(engine, run_id))
    waiting, batches = mark_published(engine, run_id)
    publish(app, batches)
    return waiting
