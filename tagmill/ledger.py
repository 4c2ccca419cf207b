"""The run ledger in SQL: every change of a batch's status, each one compare-and-set transaction.

Redis only carries hints. Celery on Redis can lose a message, deliver it twice, or deliver it long after its worker
died; the ledger decides who may work on a batch and whose results count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, insert, or_, select, update

from tagmill.database import epoch_now, insert_ignore, reading
from tagmill.outcome import ErrorCode, ImageStatus
from tagmill.tables import BatchStatus, RunState, batch, image, inference, label, mask, run, run_image, run_model


@dataclass(frozen=True)
class PendingImage:
    """One image of a claimed batch that has no outcome yet."""

    position: int
    uri: str


@dataclass(frozen=True)
class Claim:
    """A batch that this worker owns until its lease ends. `token` fences everything written for it."""

    batch_id: int
    run_id: int
    token: str
    attempts: int
    images: tuple[PendingImage, ...]
    #: sha256 of each model of the run
    models: tuple[str, ...]
    #: folders that may be read for this run
    roots: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What happened to one image: tagged (sha256 of its bytes) or failed (code and detail)."""

    position: int
    sha256: str | None = None
    error_code: ErrorCode | None = None
    error_detail: str | None = None


@dataclass(frozen=True)
class MaskRow:
    """One label's mask of an inference; see the table `mask` for the units."""

    label: str
    rle: str
    height: int
    width: int
    area_share: float
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class InferenceRow:
    """One model's answer for one image's bytes."""

    image_sha256: str
    model_sha256: str
    provider: str
    labels: tuple[tuple[str, float], ...]
    masks: tuple[MaskRow, ...]


@dataclass(frozen=True)
class ImageRow:
    """Facts of distinct image bytes."""

    sha256: str
    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True)
class BatchResult:
    """Everything one transaction writes for a batch."""

    outcomes: Sequence[Outcome]
    images: Sequence[ImageRow]
    inferences: Sequence[InferenceRow]


def claim(engine: Engine, batch_id: int, token: str, lease_seconds: float, max_attempts: int) -> Claim | None:
    """Take a batch that is free to take, or return None: done, owned by another, too early, or out of attempts."""
    now = epoch_now()
    free = or_(
        and_(batch.c.status == BatchStatus.QUEUED, or_(batch.c.not_before.is_(None), batch.c.not_before <= now)),
        and_(batch.c.status == BatchStatus.RUNNING, batch.c.lease_until < now),
    )
    open_runs = select(run.c.id).where(run.c.state == RunState.OPEN)
    take = (
        update(batch)
        .where(batch.c.id == batch_id, free, batch.c.attempts < max_attempts, batch.c.run_id.in_(open_runs))
        .values(
            status=BatchStatus.RUNNING,
            attempts=batch.c.attempts + 1,
            owner=token,
            lease_until=now + lease_seconds,
            started_at=now,
        )
        .returning(batch.c.run_id, batch.c.attempts)
    )
    with engine.begin() as connection:
        row = connection.execute(take).one_or_none()
        if row is None:
            return None
        waiting = (
            select(run_image.c.position, run_image.c.uri)
            .where(run_image.c.batch_id == batch_id, run_image.c.status == ImageStatus.PENDING)
            .order_by(run_image.c.position)
        )
        images = tuple(PendingImage(*entry) for entry in connection.execute(waiting))
        chosen = (
            select(run_model.c.model_sha256).where(run_model.c.run_id == row.run_id).order_by(run_model.c.model_sha256)
        )
        models = tuple(connection.execute(chosen).scalars())
        parameters = connection.execute(select(run.c.parameters).where(run.c.id == row.run_id)).scalar_one()
    return Claim(batch_id, row.run_id, token, row.attempts, images, models, tuple(parameters["roots"]))


def renew(engine: Engine, tokens: Iterable[str], lease_seconds: float) -> None:
    """Extend the lease of every batch owned by one of `tokens`."""
    statement = (
        update(batch)
        .where(batch.c.owner.in_(list(tokens)), batch.c.status == BatchStatus.RUNNING)
        .values(lease_until=epoch_now() + lease_seconds)
    )
    with engine.begin() as connection:
        connection.execute(statement)


def release(engine: Engine, claimed: Claim, error: str, delay_seconds: float) -> None:
    """Give a batch back after a failed attempt; it may be claimed again after the delay."""
    statement = (
        update(batch)
        .where(_owned(claimed))
        .values(
            status=BatchStatus.QUEUED,
            owner=None,
            lease_until=None,
            not_before=epoch_now() + delay_seconds,
            published_at=None,
            error=error,
        )
    )
    with engine.begin() as connection:
        connection.execute(statement)


def known_inferences(engine: Engine, shas: Iterable[str], models: Iterable[str]) -> set[tuple[str, str]]:
    """Return the (image sha256, model sha256) pairs that have a result already."""
    statement = select(inference.c.image_sha256, inference.c.model_sha256).where(
        inference.c.image_sha256.in_(list(shas)), inference.c.model_sha256.in_(list(models))
    )
    with reading(engine) as connection:
        return {(row.image_sha256, row.model_sha256) for row in connection.execute(statement)}


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes and `done` in one transaction.

    Returns False, with nothing written, where the batch was lost to another worker meanwhile.
    """
    finish = (
        update(batch)
        .where(_owned(claimed))
        .values(status=BatchStatus.DONE, owner=None, lease_until=None, finished_at=epoch_now(), error=None)
    )
    with engine.begin() as connection:
        if connection.execute(finish).rowcount != 1:
            connection.rollback()
            return False
        _write_results(connection, claimed, result, worker)
        _write_outcomes(connection, claimed, result.outcomes)
    return True


def _owned(claimed: Claim) -> Any:
    return and_(batch.c.id == claimed.batch_id, batch.c.owner == claimed.token, batch.c.status == BatchStatus.RUNNING)


def _write_results(connection: Connection, claimed: Claim, result: BatchResult, worker: str) -> None:
    # Sorted, so that two transactions that meet in the same images wait for each other instead of deadlocking.
    images = sorted((vars(row) for row in result.images), key=lambda row: str(row["sha256"]))
    if images:
        connection.execute(insert_ignore(connection, image), images)
    answers = {(row.image_sha256, row.model_sha256): row for row in result.inferences}
    if not answers:
        return
    rows = [
        {
            "image_sha256": image_sha256,
            "model_sha256": model_sha256,
            "batch_id": claimed.batch_id,
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


def _write_outcomes(connection: Connection, claimed: Claim, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    statement = (
        update(run_image)
        .where(run_image.c.run_id == claimed.run_id, run_image.c.position == bindparam("at"))
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
