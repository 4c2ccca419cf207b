"""Whether batches wait that a worker could have taken: a worker that takes none of them is not healthy."""

from sqlalchemy import Engine, select

from tagmill.db.connection import reading
from tagmill.db.schema import RunState, batch, run
from tagmill.ledger.batches.conditions import DUE, NOW, QUEUED
from tagmill.priority import Priority

#: batches of a priority that are looked at: those of paused runs may be before others
LOOKED_AT = 100


def waits_since(engine: Engine, queue: str, seconds: float) -> bool:
    """Return whether a batch of an open run was published `seconds` ago and may be claimed."""
    with reading(engine) as connection:
        for priority in Priority:
            waiting = (
                select(batch.c.run_id)
                .where(batch.c.queue == queue, batch.c.priority == int(priority), QUEUED, DUE)
                .where(batch.c.published_at < NOW - seconds)
                .order_by(batch.c.published_at)
                .limit(LOOKED_AT)
            )
            for run_id in set(connection.execute(waiting).scalars()):
                state = connection.execute(select(run.c.state).where(run.c.id == run_id)).scalar_one_or_none()
                if state == RunState.OPEN:
                    return True
    return False
