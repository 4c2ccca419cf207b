"""Who publishes the batches of a run: its producer or, once that is late, the reapers."""

from sqlalchemy import Engine, and_, case, select, update

from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import RunState, batch, run
from tagmill.ledger.batches.conditions import UNPUBLISHED, update_unlocked
from tagmill.priority import Priority

#: batches that a producer marks as published in one transaction
PUBLISH_CHUNK = 1000
#: seconds after which a producer that marked no further batches is taken for dead, and reapers publish the rest
PUBLISH_SECONDS = 30.0


def take_unpublished(engine: Engine, run_id: int, most: int = PUBLISH_CHUNK) -> list[tuple[int, int]]:
    """Mark the next batches of a run that were never published as published now; return their (run id, batch id).

    The caller publishes them, and calls again until nothing is left: that ends the publishing of the run. Until
    `PUBLISH_SECONDS` after the last call, reapers leave it to the caller. Nothing is left of a run that is paused.
    """
    chosen = select(batch.c.id).where(batch.c.run_id == run_id, UNPUBLISHED).order_by(batch.c.seq).limit(most)
    mark = update_unlocked(chosen).values(published_at=epoch_now()).returning(batch.c.seq, batch.c.id)
    with engine.begin() as connection:
        # Before its batches, as in the commands that change a run: otherwise the two could deadlock.
        locked = select(run.c.state).where(run.c.id == run_id).with_for_update(key_share=True)
        if connection.execute(locked).scalar_one() == RunState.PAUSED:
            return []
        marked = connection.execute(mark).all()
        # What another transaction has locked just now was not marked.
        left = select(batch.c.id).where(batch.c.run_id == run_id, UNPUBLISHED).exists()
        until = epoch_now() + PUBLISH_SECONDS if marked else case((left, epoch_now() + PUBLISH_SECONDS))
        connection.execute(update(run).where(run.c.id == run_id).values(publish_until=until))
    return [(run_id, row.id) for row in sorted(marked)]


def leave_publishing(engine: Engine, run_id: int) -> None:
    """Leave the batches of a run that are not published yet to the reapers, from now on."""
    with engine.begin() as connection:
        waiting = and_(run.c.id == run_id, run.c.publish_until.is_not(None))
        connection.execute(update(run).where(waiting).values(publish_until=epoch_now()))


def hold_publishing(engine: Engine, run_id: int) -> None:
    """Leave the batches of a run that are not published yet to its producer alone, which takes them up later."""
    with engine.begin() as connection:
        connection.execute(update(run).where(run.c.id == run_id).values(publish_until=None))


def renew_publishing(engine: Engine, run_id: int) -> bool:
    """Keep reapers from publishing a run for another `PUBLISH_SECONDS`. Return False if it was paused or cancelled."""
    mine = and_(run.c.id == run_id, run.c.state == RunState.OPEN)
    with engine.begin() as connection:
        until = epoch_now() + PUBLISH_SECONDS
        return connection.execute(update(run).where(mine).values(publish_until=until)).rowcount == 1


def queue_of(engine: Engine, run_id: int) -> str:
    """Return the queue of a run."""
    with reading(engine) as connection:
        return str(connection.execute(select(run.c.queue).where(run.c.id == run_id)).scalar_one())


def priority_of(engine: Engine, run_id: int) -> Priority:
    """Return the priority of a run."""
    with reading(engine, snapshot=False) as connection:
        return Priority(connection.execute(select(run.c.priority).where(run.c.id == run_id)).scalar_one())
