"""Publish a run that was written to SQL, with one small message per batch."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, publish, queue_length
from tagmill.ledger.runs.publishing import (
    PUBLISH_CHUNK,
    hold_publishing,
    leave_publishing,
    priority_of,
    queue_of,
    renew_publishing,
    take_unpublished,
)

#: seconds between two looks at a queue that is full
ROOM_SECONDS = 0.5

#: called with the number of messages sent so far, and how many wait in a queue that is full, or None
Published = Callable[[int, int | None], None]


def publish_run(
    app: Celery,
    engine: Engine,
    run_id: int,
    max_queued: int | None = None,
    progress: Published = lambda sent, waiting: None,
) -> int:
    """Put the batches of a run that were never published on the queue; return how many messages were sent.

    Each batch is marked as published first: if its message is lost after that, a worker's reaper publishes it again. If
    this call ends early, reapers publish the rest. If the broker lost messages of other runs of the queue, those are
    published before.

    With `max_queued`, it sends only while fewer messages wait on the queue, of all runs. If Ctrl-C ends it then, the
    rest waits for another call: reapers know no limit.
    """
    published = 0
    try:
        queue = queue_of(engine, run_id)
        with open_channel(app) as channel:
            recover_messages(app, channel, engine, queue)
        while True:
            room = PUBLISH_CHUNK
            if max_queued is not None:
                room = _room(app, engine, run_id, queue, max_queued, partial(progress, published))
            batches = take_unpublished(engine, run_id, room)
            if not batches:
                return published
            publish(app, batches, priority_of(engine, run_id), engine=engine)
            published += len(batches)
            progress(published, None)
    except BaseException as error:
        with suppress(SQLAlchemyError):  # reapers find out by themselves, a little later
            if max_queued is not None and isinstance(error, KeyboardInterrupt):
                hold_publishing(engine, run_id)
            else:
                leave_publishing(engine, run_id)
        raise


def _room(app: Celery, engine: Engine, run_id: int, queue: str, max_queued: int, full: Callable[[int], None]) -> int:
    """Wait until fewer messages than `max_queued` wait on the queue, and return how many may be sent now.

    If the run is paused or cancelled meanwhile, return at once: nothing of it is left to send.
    """
    while True:
        with open_channel(app) as channel:
            waiting = queue_length(channel, queue)
        if waiting < max_queued:
            return min(PUBLISH_CHUNK, max_queued - waiting)
        full(waiting)
        if not renew_publishing(engine, run_id):
            return 1
        time.sleep(ROOM_SECONDS)
