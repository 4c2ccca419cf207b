"""Complete a batch: labels, masks, outcomes and `done` in one transaction."""

from collections import Counter

from sqlalchemy import Connection, Engine, bindparam, update

from tagmill.db.bulk import insert_new, insert_new_ids, insert_rows, update_rows
from tagmill.db.connection import epoch_now
from tagmill.db.schema import BatchStatus, batch, batch_failure, file_seen, image, inference, label, mask, run_image
from tagmill.ledger import result_rows
from tagmill.ledger.leases import Claim
from tagmill.records import BatchResult

# Only a running batch has an owner, so the condition on the claim's token fences the completion.
_FINISH = (
    update(batch)
    .where(batch.c.id == bindparam("batch"), batch.c.owner == bindparam("token"))
    .values(
        status=BatchStatus.DONE,
        owner=None,
        lease_until=None,
        error=None,
        finished_at=epoch_now(),
        tagged=bindparam("tagged_images"),
        inferences=bindparam("made"),
    )
    .returning(batch.c.finished_at)
)


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes and `done` in one transaction.

    Return False and write nothing if another worker has claimed the batch in the meantime.
    """
    codes = Counter(outcome.error_code for outcome in result.outcomes)
    made = len(result.inferences)
    finish = {"batch": claimed.batch_id, "token": claimed.token, "tagged_images": codes.pop(None, 0), "made": made}
    with engine.begin() as connection:
        now = connection.execute(_FINISH, finish).scalar_one_or_none()
        if now is None:
            return False
        rows = result_rows.ResultRows(claimed.run_id, claimed.batch_id, result, worker, now)
        insert_new(connection, image, result_rows.IMAGE, rows.images)
        # Only the ids of new rows are returned: a result that another worker wrote for the same bytes stays as it is.
        new = insert_new_ids(connection, inference, result_rows.INFERENCE, rows.inferences, result_rows.INFERENCE_KEY)
        labels, masks = rows.of_new(new)
        insert_rows(connection, label, result_rows.LABEL, labels)
        insert_rows(connection, mask, result_rows.MASK, masks)
        insert_new(connection, file_seen, result_rows.FILE, rows.files)
        update_rows(connection, run_image, result_rows.OUTCOME, ("run_id", "position"), rows.outcomes)
        if codes:
            failed = [(claimed.run_id, claimed.batch_id, code, images) for code, images in codes.items()]
            insert_rows(connection, batch_failure, ("run_id", "batch_id", "error_code", "images"), failed)
        if len(new) != made:  # another worker wrote results for some of the bytes first
            _set_inferences(connection, claimed.batch_id, len(new))
    return True


def _set_inferences(connection: Connection, batch_id: int, inferences: int) -> None:
    connection.execute(update(batch).where(batch.c.id == batch_id).values(inferences=inferences))
