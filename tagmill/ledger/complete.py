"""Complete a batch: labels, masks, outcomes, what the catalog shows, and `done` in one transaction."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

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
from tagmill.db.types import Hash128, Integers, Rle, Sha256, hash_head
from tagmill.ledger.catalog import TaggedEntry, show
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
        finished_at=epoch_now(),
        tagged=bindparam("tagged_images"),
        inferences=bindparam("made"),
    )
    .returning(batch.c.finished_at)
)
_IMAGE_IDS = select(image_content.c.id, image_content.c.sha256).where(any_of(hash_head(image_content.c.sha256), "shas"))

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
_FAILURE = ("run_id", "position", "batch_id", "error_code", "error_detail")
_COUNT = ("run_id", "batch_id", "error_code", "images")

_NO_LABELS: list[None] = [None] * LABELS


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes, what the catalog shows and `done` in one transaction.

    Return False and write nothing if another worker has claimed the batch in the meantime.
    """
    numbers = _Numbers(engine, claimed, result, worker)
    codes = Counter(outcome.error_code for outcome in result.outcomes if outcome.error_code)
    tagged = {at.position: at.sha256 for at in result.outcomes if not at.error_code and at.sha256}
    answers = {(row.image_sha256, row.model_sha256): row for row in result.inferences}
    finish = {"batch": claimed.batch_id, "token": claimed.token, "tagged_images": len(tagged), "made": len(answers)}
    with engine.begin() as connection:
        now = connection.execute(_FINISH, finish).scalar_one_or_none()
        if now is None:
            return False
        # Rows that other batches may also write are sorted: two transactions that write the same rows then wait for
        # each other instead of deadlocking.
        ids, new = _write_images(connection, result.images, {*tagged.values(), *(sha256 for sha256, _ in answers)})
        made = _write_results(connection, claimed, answers.values(), _Written(ids, new, now), numbers)
        if made != len(answers):  # another worker wrote results for some of the bytes first
            connection.execute(update(batch).where(batch.c.id == claimed.batch_id).values(inferences=made))
        _write_files(connection, result.files, ids)
        image_ids = [ids.get(tagged.get(at.position, "")) for at in claimed.images]
        _write_outcomes(connection, claimed, result.outcomes, image_ids)
        if codes:
            counts = [(claimed.run_id, claimed.batch_id, *found) for found in codes.items()]
            insert_rows(connection, batch_failure, _COUNT, counts)
        shown = [
            TaggedEntry(at.image_key, at.position, ids[tagged[at.position]])
            for at in claimed.images
            if at.position in tagged
        ]
        show(connection, claimed.run_id, claimed.pinned, shown, now)
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


@dataclass(frozen=True)
class _Written:
    """The images of a batch."""

    #: sha256 -> id
    ids: Mapping[str, int]
    #: ids of those that this transaction inserted
    new: Set[int]
    #: when the batch was done
    now: float


def _write_images(
    connection: Connection, rows: Iterable[ImageRow], wanted: set[str]
) -> tuple[dict[str, int], set[int]]:
    """Insert the images that are new; return sha256 -> id of `wanted`, and the ids that are new."""
    facts = sorted({(Sha256.stored(row.sha256), row.width, row.height, row.format, row.bytes) for row in rows})
    inserted = insert_new_returning(connection, image_content, _IMAGE, facts, ("sha256", "id"))
    ids = {bytes(sha256).hex(): number for sha256, number in inserted}
    new = set(ids.values())
    if missing := [sha256 for sha256 in wanted if sha256 not in ids]:
        ids |= {row.sha256: row.id for row in connection.execute(_IMAGE_IDS, {"shas": missing})}
    return ids, new


def _write_results(
    connection: Connection, claimed: Claim, answers: Iterable[InferenceRow], images: _Written, numbers: _Numbers
) -> int:
    """Insert the results that are new, with their labels and masks; return their number.

    A result that another worker wrote for the same bytes stays as it is.
    """
    found = {(images.ids[row.image_sha256], numbers.models[row.model_sha256]): row for row in answers}
    labels, made_by = numbers.labels, (numbers.worker, images.now)
    fresh: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    for key, row in sorted(found.items(), key=lambda one: one[0]):
        best = row.labels[:LABELS]
        names, scores = [labels[text] for text, _ in best], [score for _, score in best]
        empty = _NO_LABELS[len(best) :]
        values = (*key, claimed.batch_id, numbers.providers[row.provider], *made_by, *names, *empty, *scores, *empty)
        (fresh if key[0] in images.new else others).append(values)
    # Nobody else can write results of an image that this transaction inserted.
    insert_rows(connection, result_table, _RESULT, fresh)
    made = [values[:2] for values in fresh]
    made += insert_new_returning(connection, result_table, _RESULT, others, ("image_id", "model_id"))
    further = [
        (*key, rank, labels[text], score)
        for key in made
        for rank, (text, score) in enumerate(found[key].labels[LABELS:], LABELS + 1)
    ]
    insert_rows(connection, further_label, _LABEL, further)
    dialect = connection.dialect.name
    masks = [
        (*key, labels[m.label], Rle.stored(m.rle, dialect), m.height, m.width, m.area_share, *m.box, m.score)
        for key in made
        for m in found[key].masks
    ]
    insert_rows(connection, result_mask, _MASK, masks)
    return len(made)


def _write_files(connection: Connection, files: Iterable[SeenFile], ids: Mapping[str, int]) -> None:
    dialect = connection.dialect.name
    found = sorted({file.identity: ids[file.sha256] for file in files}.items())
    rows = [(Hash128.stored(identity, dialect), image) for identity, image in found]
    insert_new(connection, known_file, _FILE, rows)


def _write_outcomes(
    connection: Connection, claimed: Claim, outcomes: Iterable[Outcome], image_ids: Sequence[int | None]
) -> None:
    outcome = {"image_ids": Integers.stored(image_ids, connection.dialect.name)}
    insert_new(connection, batch_outcome, ("batch_id",), [(claimed.batch_id,)], outcome)
    # A detail may quote bytes of the image: one character that SQL refuses would fail the whole batch.
    failed = [
        (claimed.run_id, at.position, claimed.batch_id, at.error_code, at.error_detail and printable(at.error_detail))
        for at in outcomes
        if at.error_code
    ]
    insert_rows(connection, image_failure, _FAILURE, failed)
