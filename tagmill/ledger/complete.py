"""Complete a batch: labels, masks, outcomes, what the catalog shows, and `done` in one transaction."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Engine, bindparam, select, update

from tagmill.db.any_of import any_of
from tagmill.db.bulk import insert_new, insert_new_returning, insert_rows
from tagmill.db.connection import epoch_now
from tagmill.db.names import ids_of
from tagmill.db.schema import (
    LABELS,
    BatchStatus,
    batch,
    batch_failure,
    batch_outcome,
    further_label,
    image_content,
    image_failure,
    known_file,
    label_name,
    provider,
    result_mask,
)
from tagmill.db.schema import result as result_table
from tagmill.db.schema import worker as worker_name
from tagmill.db.types import Hash128, Integers, Rle, Sha256
from tagmill.ledger import catalog
from tagmill.ledger.catalog import TaggedEntry
from tagmill.ledger.leases import Claim
from tagmill.outcomes import printable
from tagmill.records import BatchResult, ImageRow, InferenceRow, Outcome, SeenFile

# Only a running batch has an owner, so the condition on the claim's token fences the completion.
_FINISH = (
    update(batch)
    .where(batch.c.id == bindparam("batch"), batch.c.owner == bindparam("token"))
    .values(
        status=BatchStatus.DONE,
        owner=None,
        lease_until=None,
        error=None,
        finished_at=bindparam("now"),
        tagged=bindparam("tagged_images"),
        inferences=bindparam("made"),
    )
)
_NOW = select(epoch_now())
_IMAGE_IDS = select(image_content.c.id, image_content.c.sha256).where(any_of(image_content.c.sha256, "shas"))

# Columns of the rows that are written.
_IMAGE = ("sha256", "width", "height", "format", "bytes")
_FILE = ("identity", "image_id")
_RESULT = (
    *("image_id", "model_id", "batch_id", "provider_id", "worker_id", "created_at"),
    *(f"label_{rank}" for rank in range(1, LABELS + 1)),
    *(f"score_{rank}" for rank in range(1, LABELS + 1)),
)
_LABEL = ("image_id", "model_id", "rank", "label_id", "score")
_MASK = (
    *("image_id", "model_id", "label_id", "rle", "height", "width"),
    *("area_share", "box_left", "box_top", "box_right", "box_bottom", "score"),
)
_OUTCOME = ("batch_id", "image_ids")
_FAILURE = ("run_id", "position", "batch_id", "error_code", "error_detail")
_COUNT = ("run_id", "batch_id", "error_code", "images")

_NO_LABELS: list[None] = [None] * LABELS


class _TakenOverError(Exception):
    """Another worker owns the batch: nothing may be written."""


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes, what the catalog shows and `done` in one transaction.

    Return False and write nothing if another worker has claimed the batch in the meantime.
    """
    numbers = _Numbers(engine, claimed, result, worker)
    codes = Counter(outcome.error_code for outcome in result.outcomes if outcome.error_code)
    tagged = [outcome for outcome in result.outcomes if not outcome.error_code]
    try:
        with engine.begin() as connection:
            now = float(connection.execute(_NOW).scalar_one())
            # Rows that other batches may also write are sorted: two transactions that write the same rows then wait
            # for each other instead of deadlocking.
            images = _write_images(connection, result.images, {outcome.sha256 for outcome in tagged if outcome.sha256})
            made = _write_results(connection, claimed, result.inferences, images, numbers, now)
            _write_files(connection, result.files, images)
            finish = {"batch": claimed.batch_id, "token": claimed.token, "now": now}
            if connection.execute(_FINISH, finish | {"tagged_images": len(tagged), "made": made}).rowcount != 1:
                raise _TakenOverError
            _write_outcomes(connection, claimed, result.outcomes, images)
            if codes:
                counts = [(claimed.run_id, claimed.batch_id, *found) for found in codes.items()]
                insert_rows(connection, batch_failure, _COUNT, counts)
            keys = {entry.position: entry.image_key for entry in claimed.images}
            shown = [TaggedEntry(keys[at.position], at.position, images[at.sha256]) for at in tagged if at.sha256]
            catalog.show(connection, claimed.run_id, claimed.pinned, shown, now)
    except _TakenOverError:
        return False
    return True


class _Numbers:
    """The numbers that SQL has for the names in a batch's results."""

    def __init__(self, engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> None:
        rows = result.inferences
        texts = {text for row in rows for text, _ in row.labels} | {mask.label for row in rows for mask in row.masks}
        self.labels = ids_of(engine, label_name, texts)
        self.providers = ids_of(engine, provider, {row.provider for row in rows})
        self.worker = ids_of(engine, worker_name, [worker])[worker] if rows else 0
        self.models = {found.sha256: found.id for found in claimed.pinned}


def _write_images(connection: Connection, rows: Iterable[ImageRow], tagged: set[str]) -> dict[str, int]:
    """Insert the images that are new; return sha256 -> id of all of `rows` and `tagged`."""
    facts = sorted({(Sha256.stored(row.sha256), row.width, row.height, row.format, row.bytes) for row in rows})
    new = insert_new_returning(connection, image_content, _IMAGE, facts, ("sha256", "id"))
    ids = {bytes(sha256).hex(): number for sha256, number in new}
    missing = [sha256 for sha256 in {*tagged, *(row.sha256 for row in rows)} if sha256 not in ids]
    if missing:
        ids |= {row.sha256: row.id for row in connection.execute(_IMAGE_IDS, {"shas": missing})}
    return ids


def _write_results(
    connection: Connection,
    claimed: Claim,
    inferences: Iterable[InferenceRow],
    images: Mapping[str, int],
    numbers: _Numbers,
    now: float,
) -> int:
    """Insert the results that are new, with their labels and masks; return their number.

    A result that another worker wrote for the same bytes stays as it is.
    """
    found = {(images[row.image_sha256], numbers.models[row.model_sha256]): row for row in inferences}
    labels = numbers.labels
    rows = []
    for key, row in sorted(found.items(), key=lambda one: one[0]):
        best = row.labels[:LABELS]
        names, scores = [labels[text] for text, _ in best], [score for _, score in best]
        empty = _NO_LABELS[len(best) :]
        made_by = (claimed.batch_id, numbers.providers[row.provider], numbers.worker, now)
        rows.append((*key, *made_by, *names, *empty, *scores, *empty))
    made = insert_new_returning(connection, result_table, _RESULT, rows, ("image_id", "model_id"))
    new = [(key, found[key]) for key in made]
    further = [
        (*key, rank, labels[text], score)
        for key, row in new
        for rank, (text, score) in enumerate(row.labels[LABELS:], LABELS + 1)
    ]
    insert_rows(connection, further_label, _LABEL, further)
    dialect = connection.dialect.name
    masks = [
        (*key, labels[m.label], Rle.stored(m.rle, dialect), m.height, m.width, m.area_share, *m.box, m.score)
        for key, row in new
        for m in row.masks
    ]
    insert_rows(connection, result_mask, _MASK, masks)
    return len(made)


def _write_files(connection: Connection, files: Iterable[SeenFile], images: Mapping[str, int]) -> None:
    dialect = connection.dialect.name
    found = sorted({file.identity: images[file.sha256] for file in files}.items())
    rows = [(Hash128.stored(identity, dialect), image) for identity, image in found]
    insert_new(connection, known_file, _FILE, rows)


def _write_outcomes(
    connection: Connection, claimed: Claim, outcomes: Sequence[Outcome], images: Mapping[str, int]
) -> None:
    tagged = {found.position: images[found.sha256] for found in outcomes if not found.error_code and found.sha256}
    ids = [tagged.get(entry.position) for entry in claimed.images]
    insert_rows(
        connection, batch_outcome, _OUTCOME, [(claimed.batch_id, Integers.stored(ids, connection.dialect.name))]
    )
    # A detail may quote bytes of the image: one character that SQL refuses would fail the whole batch.
    failed = [
        (claimed.run_id, at.position, claimed.batch_id, at.error_code, at.error_detail and printable(at.error_detail))
        for at in outcomes
        if at.error_code
    ]
    insert_rows(connection, image_failure, _FAILURE, failed)
