"""Publish a run that was written to SQL: one small message per batch."""

from celery import Celery
from sqlalchemy import Engine

from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, publish
from tagmill.ledger.runs import queue_of, waiting_batches


def publish_run(app: Celery, engine: Engine, run_id: int) -> int:
    """Put every waiting batch of a run on the queue; return how many wait.

    The batches are marked as published first: if a message is lost then, a worker's reaper publishes it again. If the
    broker lost messages of other runs of the queue, they are published before.
    """
    with open_channel(app) as channel:
        recover_messages(app, channel, engine, queue_of(engine, run_id))
    waiting, batches = waiting_batches(engine, run_id)
    publish(app, batches)
    return waiting
