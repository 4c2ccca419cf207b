"""Publish a run that was written to SQL, with one small message per batch."""

from contextlib import suppress

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, publish
from tagmill.ledger.runs import leave_publishing, priority_of, queue_of, take_unpublished


def publish_run(app: Celery, engine: Engine, run_id: int) -> int:
    """Put the batches of a run that were never published on the queue; return how many messages were sent.

    Each batch is marked as published first: if its message is lost after that, a worker's reaper publishes it again. If
    this call ends early, reapers publish the rest. If the broker lost messages of other runs of the queue, those are
    published before.
    """
    try:
        with open_channel(app) as channel:
            recover_messages(app, channel, engine, queue_of(engine, run_id))
        published = 0
        while batches := take_unpublished(engine, run_id):
            publish(app, batches, priority_of(engine, run_id), engine=engine)
            published += len(batches)
    except BaseException:
        with suppress(SQLAlchemyError):  # reapers find out by themselves, a little later
            leave_publishing(engine, run_id)
        raise
    return published
