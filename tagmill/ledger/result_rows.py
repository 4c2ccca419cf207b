"""Write the result of one batch inside the transaction that completes it."""

from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import Connection

from tagmill.db.bulk import insert_new, insert_new_ids, insert_rows, update_rows
from tagmill.db.schema import file_seen, image, inference, label, mask, run_image
from tagmill.outcomes import ImageStatus, printable
from tagmill.records import BatchResult, ImageRow, InferenceRow, Outcome, SeenFile

_IMAGE = ("sha256", "width", "height", "format", "bytes")
_FILE = ("identity", "sha256")
_ANSWER = ("image_sha256", "model_sha256")
_INFERENCE = (*_ANSWER, "batch_id", "provider", "worker", "created_at")
_LABEL = ("inference_id", "rank", "label", "score")
_MASK_FACTS = ("label", "rle", "height", "width", "area_share")
_MASK_BOX = ("box_left", "box_top", "box_right", "box_bottom")
_MASK = ("inference_id", *_MASK_FACTS, *_MASK_BOX, "score")
_OUTCOME = ("status", "sha256", "error_code", "error_detail")

_image_values = attrgetter(*_IMAGE)
_file_values = attrgetter(*_FILE)
_mask_values = attrgetter(*_MASK_FACTS)


def write_result(
    connection: Connection, run_id: int, batch_id: int, result: BatchResult, worker: str, now: float
) -> int:
    """Insert images, answers and files that are new, and give every image of the batch its outcome.

    Returns how many answers were new. `now` is in Unix seconds by the database's clock.
    """
    _write_images(connection, result.images)
    written = _write_answers(connection, batch_id, result.inferences, worker, now)
    _write_files(connection, result.files)
    _write_outcomes(connection, run_id, result.outcomes)
    return written


# Rows that others may write, too, are sorted: two transactions that meet in the same ones wait for each other instead
# of deadlocking.


def _write_images(connection: Connection, images: Sequence[ImageRow]) -> None:
    insert_new(connection, image, _IMAGE, sorted(map(_image_values, images)))


def _write_files(connection: Connection, files: Sequence[SeenFile]) -> None:
    insert_new(connection, file_seen, _FILE, sorted(map(_file_values, files)))


def _write_answers(
    connection: Connection, batch_id: int, inferences: Sequence[InferenceRow], worker: str, now: float
) -> int:
    answers = {(row.image_sha256, row.model_sha256): row for row in inferences}
    rows = [(*pair, batch_id, answers[pair].provider, worker, now) for pair in sorted(answers)]
    # Only rows that this transaction inserts come back: another worker's result for the same bytes stays as it is.
    written = insert_new_ids(connection, inference, _INFERENCE, rows, _ANSWER)
    new = [(row_id, answers[pair]) for pair, row_id in written.items()]
    labels = [(row_id, rank, *found) for row_id, answer in new for rank, found in enumerate(answer.labels, 1)]
    masks = [
        (row_id, *_mask_values(found), *found.box, found.score) for row_id, answer in new for found in answer.masks
    ]
    insert_rows(connection, label, _LABEL, labels)
    insert_rows(connection, mask, _MASK, masks)
    return len(new)


def _write_outcomes(connection: Connection, run_id: int, outcomes: Sequence[Outcome]) -> None:
    rows = [
        (_status(outcome), outcome.sha256, outcome.error_code, _detail(outcome), run_id, outcome.position)
        for outcome in outcomes
    ]
    update_rows(connection, run_image, _OUTCOME, ("run_id", "position"), rows)


def _status(outcome: Outcome) -> ImageStatus:
    return ImageStatus.FAILED if outcome.error_code else ImageStatus.TAGGED


def _detail(outcome: Outcome) -> str | None:
    # It may quote a stranger's bytes: what SQL refuses in one of them would cost the whole batch.
    return None if outcome.error_detail is None else printable(outcome.error_detail)
