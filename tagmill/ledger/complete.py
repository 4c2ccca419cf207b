"""Complete a batch: labels, masks, outcomes and `done` in one transaction."""

from collections import Counter

from sqlalchemy import (
    Engine,
    update,
)

from tagmill.db.bulk import insert_rows
from tagmill.db.connection import epoch_now
from tagmill.db.schema import (
    BatchStatus,
    batch,
    batch_failure,
)
from tagmill.ledger.leases import Claim, _owned
from tagmill.ledger.result_rows import write_result
from tagmill.records import BatchResult


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes and `done` in one transaction.

    Returns False, with nothing written, where the batch was lost to another worker meanwhile.
    """
    codes = Counter(outcome.error_code for outcome in result.outcomes)
    left = {"status": BatchStatus.DONE, "owner": None, "lease_until": None, "finished_at": epoch_now(), "error": None}
    counts = {"tagged": codes.pop(None, 0), "inferences": len(result.inferences)}
    finish = update(batch).where(_owned(claimed)).values(**left, **counts).returning(batch.c.finished_at)
    with engine.begin() as connection:
        now = connection.execute(finish).scalar_one_or_none()
        if now is None:
            return False
        new = write_result(connection, claimed.run_id, claimed.batch_id, result, worker, now)
        if new != counts["inferences"]:  # another worker was first with the same bytes
            connection.execute(update(batch).where(batch.c.id == claimed.batch_id).values(inferences=new))
        if codes:
            rows = [(claimed.run_id, claimed.batch_id, code, images) for code, images in codes.items()]
            insert_rows(connection, batch_failure, ("run_id", "batch_id", "error_code", "images"), rows)
    return True
