"""Give a batch back until the entries that its own repeat have an outcome."""

from sqlalchemy import Engine

from tagmill.db.connection import epoch_now
from tagmill.db.schema import batch
from tagmill.ledger.batches.leases import Claim, requeue

#: seconds of the first wait; each further one is twice as long, up to the longest
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 60.0
#: counted waits: later ones change nothing
MOST_WAITS = 100


def wait_for_firsts(engine: Engine, claimed: Claim) -> None:
    """Requeue a batch that repeats entries without an outcome: it costs no attempt, and comes back later each time."""
    seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2**claimed.waits)
    waits = min(claimed.waits + 1, MOST_WAITS)
    requeue(engine, claimed, epoch_now() + seconds, attempts=batch.c.attempts - 1, waits=waits)
