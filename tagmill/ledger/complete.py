"""Complete a batch: labels, masks, outcomes and `done` in one transaction."""

from collections import Counter
from operator import attrgetter

from sqlalchemy import Engine, bindparam, update

from tagmill.db.bulk import insert_new, insert_new_ids, insert_rows, update_rows
from tagmill.db.connection import epoch_now
from tagmill.db.schema import BatchStatus, batch, batch_failure, file_seen, image, inference, label, mask, run_image
from tagmill.ledger.leases import Claim
from tagmill.outcomes import ImageStatus, printable
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

# Columns of the rows that are written.
_IMAGE = ("sha256", "width", "height", "format", "bytes")
_FILE = ("identity", "sha256")
_KEY = ("image_sha256", "model_sha256")
_INFERENCE = (*_KEY, "batch_id", "provider", "worker", "created_at")
_LABEL = ("inference_id", "rank", "label", "score")
_MASK_FIELDS = ("label", "rle", "height", "width", "area_share")
_MASK = ("inference_id", *_MASK_FIELDS, "box_left", "box_top", "box_right", "box_bottom", "score")
_OUTCOME = ("status", "sha256", "error_code", "error_detail")
_FAILURE = ("run_id", "batch_id", "error_code", "images")

_image_values = attrgetter(*_IMAGE)
_file_values = attrgetter(*_FILE)
_mask_values = attrgetter(*_MASK_FIELDS)


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes and `done` in one transaction.

    Return False and write nothing if another worker has claimed the batch in the meantime.
    """
    run_id, batch_id = claimed.run_id, claimed.batch_id
    codes = Counter(outcome.error_code for outcome in result.outcomes)
    inferences = {(row.image_sha256, row.model_sha256): row for row in result.inferences}
    finish = {"batch": batch_id, "token": claimed.token, "tagged_images": codes.pop(None, 0), "made": len(inferences)}
    with engine.begin() as connection:
        now = connection.execute(_FINISH, finish).scalar_one_or_none()
        if now is None:
            return False
        # Rows that other batches may also write are sorted: two transactions that write the same rows then wait for
        # each other instead of deadlocking.
        insert_new(connection, image, _IMAGE, sorted(map(_image_values, result.images)))
        rows = [(*pair, batch_id, inferences[pair].provider, worker, now) for pair in sorted(inferences)]
        # Only the ids of new rows are returned: a result that another worker wrote for the same bytes stays as it is.
        made = insert_new_ids(connection, inference, _INFERENCE, rows, _KEY)
        new = [(row_id, inferences[pair]) for pair, row_id in made.items()]
        labels = [(row_id, rank, *found) for row_id, row in new for rank, found in enumerate(row.labels, 1)]
        insert_rows(connection, label, _LABEL, labels)
        masks = [(row_id, *_mask_values(m), *m.box, m.score) for row_id, row in new for m in row.masks]
        insert_rows(connection, mask, _MASK, masks)
        insert_new(connection, file_seen, _FILE, sorted(map(_file_values, result.files)))
        # A detail may quote bytes of the image: one character that SQL refuses would fail the whole batch.
        outcomes = [
            (
                ImageStatus.FAILED if outcome.error_code else ImageStatus.TAGGED,
                outcome.sha256,
                outcome.error_code,
                outcome.error_detail and printable(outcome.error_detail),
                run_id,
                outcome.position,
            )
            for outcome in result.outcomes
        ]
        update_rows(connection, run_image, _OUTCOME, ("run_id", "position"), outcomes)
        if codes:
            insert_rows(connection, batch_failure, _FAILURE, [(run_id, batch_id, *found) for found in codes.items()])
        if len(made) != len(inferences):  # another worker wrote results for some of the bytes first
            connection.execute(update(batch).where(batch.c.id == batch_id).values(inferences=len(made)))
    return True
