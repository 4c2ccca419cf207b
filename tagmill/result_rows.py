"""Write the result of one batch inside the transaction that completes it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from tagmill.batch_result import BatchResult, InferenceRow, Outcome
from tagmill.database import epoch_now, insert_ignore
from tagmill.outcome import ImageStatus
from tagmill.tables import file_seen, image, inference, label, mask, run_image


def write_result(connection: Connection, run_id: int, batch_id: int, result: BatchResult, worker: str) -> None:
    """Insert images, answers and files that are new, and give every image of the batch its outcome."""
    # Sorted, so that two transactions that meet in the same images wait for each other instead of deadlocking.
    images = sorted((vars(row) for row in result.images), key=lambda row: str(row["sha256"]))
    if images:
        connection.execute(insert_ignore(connection, image), images)
    _write_answers(connection, batch_id, result.inferences, worker)
    files = {found.identity: found for found in result.files}
    if files:
        rows = [vars(files[identity]) for identity in sorted(files)]
        connection.execute(insert_ignore(connection, file_seen), rows)
    _write_outcomes(connection, run_id, result.outcomes)


def _write_answers(connection: Connection, batch_id: int, inferences: Sequence[InferenceRow], worker: str) -> None:
    answers = {(row.image_sha256, row.model_sha256): row for row in inferences}
    if not answers:
        return
    rows = [
        {
            "image_sha256": image_sha256,
            "model_sha256": model_sha256,
            "batch_id": batch_id,
            "provider": answers[image_sha256, model_sha256].provider,
            "worker": worker,
        }
        for image_sha256, model_sha256 in sorted(answers)
    ]
    # Only rows that this transaction inserts come back: another worker's result for the same bytes stays as it is.
    statement = insert_ignore(connection, inference).values(created_at=epoch_now())
    returned = statement.returning(inference.c.id, inference.c.image_sha256, inference.c.model_sha256)
    labels: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    for row_id, image_sha256, model_sha256 in connection.execute(returned, rows):
        answer = answers[image_sha256, model_sha256]
        labels += _label_rows(row_id, answer)
        masks += _mask_rows(row_id, answer)
    if labels:
        connection.execute(insert(label), labels)
    if masks:
        connection.execute(insert(mask), masks)


def _label_rows(inference_id: int, answer: InferenceRow) -> list[dict[str, Any]]:
    return [
        {"inference_id": inference_id, "rank": rank, "label": name, "score": score}
        for rank, (name, score) in enumerate(answer.labels, start=1)
    ]


def _mask_rows(inference_id: int, answer: InferenceRow) -> list[dict[str, Any]]:
    return [
        {
            "inference_id": inference_id,
            "label": row.label,
            "rle": row.rle,
            "height": row.height,
            "width": row.width,
            "area_share": row.area_share,
            "box_left": row.box[0],
            "box_top": row.box[1],
            "box_right": row.box[2],
            "box_bottom": row.box[3],
            "score": row.score,
        }
        for row in answer.masks
    ]


def _write_outcomes(connection: Connection, run_id: int, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    statement = (
        update(run_image)
        .where(run_image.c.run_id == run_id, run_image.c.position == bindparam("at"))
        .values(
            status=bindparam("new_status"),
            sha256=bindparam("new_sha256"),
            error_code=bindparam("new_code"),
            error_detail=bindparam("new_detail"),
        )
    )
    rows = [
        {
            "at": outcome.position,
            "new_status": ImageStatus.FAILED if outcome.error_code else ImageStatus.TAGGED,
            "new_sha256": outcome.sha256,
            "new_code": outcome.error_code,
            "new_detail": outcome.error_detail,
        }
        for outcome in outcomes
    ]
    connection.execute(statement, rows)
