"""Read the results of a run from SQL, image by image, in flat memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Row,
    Select,
    Table,
    and_,
    cast,
    func,
    or_,
    select,
    text,
)

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import (
    LABELS,
    batch,
    batch_outcome,
    entry,
    further_label,
    image_content,
    image_failure,
    label_name,
    model,
    result,
    result_mask,
    run,
    run_model,
)
from tagmill.errors import InputError
from tagmill.ledger.positions import positions_of
from tagmill.outcomes import ImageStatus
from tagmill.records import Mask
from tagmill.registry.models import Model, models_by_sha256
from tagmill.text import normalize

#: images per round of queries
PAGE = 500


@dataclass(frozen=True)
class ImageResult:
    """One image of a run with its labels and masks, by model name."""

    position: int
    image_key: str
    uri: str
    status: str
    error_code: str | None
    error_detail: str | None
    sha256: str | None
    width: int | None
    height: int | None
    #: (label, score), best first
    labels: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    masks: dict[str, list[Mask]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        answers: dict[str, Any] = {}
        for name, labels in self.labels.items():
            answers[name] = {"labels": [{"label": text, "score": score} for text, score in labels]}
        for name, masks in self.masks.items():
            answers.setdefault(name, {})["masks"] = [found.to_json() for found in masks]
        facts = ("image_key", "uri", "status", "error_code", "error_detail", "sha256", "width", "height")
        return {name: getattr(self, name) for name in facts} | {"models": answers}


def run_models(engine: Engine, run_id: int) -> list[Model]:
    """Return the models pinned for a run, sorted by name and version. Raise InputError if there is no such run."""
    with reading(engine) as connection:
        if connection.execute(select(run.c.id).where(run.c.id == run_id)).one_or_none() is None:
            raise InputError(f"no run {run_id}; see `tagmill run list`")
        pinned = select(model.c.sha256).join(run_model, run_model.c.model_id == model.c.id)
        chosen = list(connection.execute(pinned.where(run_model.c.run_id == run_id)).scalars())
    return sorted(models_by_sha256(engine, chosen).values(), key=lambda found: (found.name, found.version))


def is_ascii(engine: Engine, run_id: int, models: Sequence[Model]) -> bool:
    """Return whether the keys and locations of a run, and the labels and names of its models, are plain ASCII."""
    if not all(text.isascii() for found in models for text in (found.name, *found.labels)):
        return False
    with reading(engine) as connection:
        _look_up_by_index(connection)
        in_bytes = func.octet_length if connection.dialect.name == "postgresql" else _octet_length
        other = or_(*(in_bytes(column) != func.length(column) for column in (entry.c.image_key, entry.c.uri)))
        return (
            connection.execute(select(entry.c.run_id).where(entry.c.run_id == run_id, other).limit(1)).first() is None
        )


def _octet_length(column: ColumnElement[str]) -> ColumnElement[int]:
    """Return the number of bytes of a text for SQLite, which has `octet_length` since version 3.43 alone."""
    return func.length(cast(column, LargeBinary))


def read_results(engine: Engine, run_id: int, models: Sequence[Model]) -> Iterator[ImageResult]:
    """Yield every image of a run in the order of its manifest."""
    last, batches = -1, _OpenBatches(run_id)
    while True:
        with reading(engine) as connection:
            _look_up_by_index(connection)
            found = select(entry).where(entry.c.run_id == run_id, entry.c.position > last)
            page = connection.execute(found.order_by(entry.c.position).limit(PAGE)).all()
            if not page:
                return
            first, last = page[0].position, page[-1].position
            tagged = batches.image_ids(connection, first, last)
            failed = _failures(connection, run_id, first, last)
            images = _by_id(connection, image_content, tagged.values())
            answers = _answers(connection, list(images), models)
        for row in page:
            image = images.get(tagged.get(row.position, -1))
            failure = failed.get(row.position)
            status = ImageStatus.TAGGED if image else ImageStatus.FAILED if failure else ImageStatus.PENDING
            code, detail = (failure.error_code, failure.error_detail) if failure else (None, None)
            sha256, width, height = (image.sha256, image.width, image.height) if image else (None, None, None)
            labels, masks = answers.get(image.id, ({}, {})) if image else ({}, {})
            yield ImageResult(
                *(row.position, row.image_key, row.uri, status, code, detail),
                *(sha256, width, height, labels, masks),
            )


def _look_up_by_index(connection: Connection) -> None:
    """Have PostgreSQL use an index for each lookup of this transaction.

    Without statistics, as after `pg_upgrade`, it expects the masks of a page to be all masks, and reads the table.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL enable_seqscan = off"))


class _OpenBatches:
    """The batches of a run whose entries are on the pages to come, read in the order of their first positions."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        #: batches up to this first position were read, up to this number
        self._read_to, self._newest = -1, -1
        self._open: list[Any] = []

    def image_ids(self, connection: Connection, first: int, last: int) -> dict[int, int]:
        """Return position -> image id of the images from `first` to `last` that were tagged."""
        columns = (batch.c.id, batch.c.positions, batch.c.first_position, batch.c.last_position)
        mine = select(*columns).where(batch.c.run_id == self._run_id)
        newest = select(func.max(batch.c.seq)).where(batch.c.run_id == self._run_id)
        # A retry since the last page made further batches.
        made_since = and_(batch.c.seq > self._newest, batch.c.first_position <= self._read_to)
        self._open = [found for found in self._open if found.last_position >= first]
        self._open += connection.execute(mine.where(batch.c.first_position.between(self._read_to + 1, last))).all()
        self._open += connection.execute(mine.where(made_since)).all() if self._read_to >= 0 else []
        self._newest = connection.execute(newest).scalar_one()
        self._read_to = last
        outcomes = _by_id(connection, batch_outcome, [found.id for found in self._open])
        return {
            at: image
            for found in self._open
            if found.id in outcomes
            for at, image in zip(positions_of(found), outcomes[found.id].image_ids, strict=True)
            if image is not None and first <= at <= last
        }


def _by_id(connection: Connection, table: Table, ids: Iterable[int]) -> dict[int, Row[Any]]:
    """Return the rows of a table with these keys, by key."""
    (key,) = table.primary_key.columns
    found = connection.execute(select(table).where(any_of(key, "ids")), {"ids": list(ids)})
    return {row._mapping[key.name]: row for row in found}


def _failures(connection: Connection, run_id: int, first: int, last: int) -> dict[int, Row[Any]]:
    """Return position -> failure from position `first` to `last`."""
    mine = and_(image_failure.c.run_id == run_id, image_failure.c.position.between(first, last))
    return {row.position: row for row in connection.execute(select(image_failure).where(mine))}


#: image id -> labels and masks by the name of the model
_Answers = dict[int, tuple[dict[str, list[tuple[str, float]]], dict[str, list[Mask]]]]


def _answers(connection: Connection, images: Sequence[int], models: Sequence[Model]) -> _Answers:
    unique = unique_names(models)
    names = {found.id: unique[found.sha256] for found in models}
    of_these = {"images": images, "models": list(names)}
    results = connection.execute(_of_images(result), of_these).all()
    further = connection.execute(_of_images(further_label).order_by(further_label.c.rank), of_these).all()
    masks = connection.execute(_of_images(result_mask), of_these).all()
    ids = {row.label_id for row in (*further, *masks)} | {label for row in results for label, _ in _best(row)}
    words = {number: normalize(row.name) for number, row in _by_id(connection, label_name, ids).items()}
    answers: _Answers = defaultdict(lambda: ({}, {}))
    # The results of an image in the order in which they were made.
    shas = {found.id: found.sha256 for found in models}
    results = sorted(results, key=lambda row: (row.created_at, shas[row.model_id]))
    order = {(row.image_id, row.model_id): number for number, row in enumerate(results)}
    for row in results:
        if best := _best(row):
            answers[row.image_id][0][names[row.model_id]] = [(words[label], score) for label, score in best]
    for row in further:
        answers[row.image_id][0][names[row.model_id]].append((words[row.label_id], row.score))
    made = sorted(masks, key=lambda row: (order[row.image_id, row.model_id], -row.area_share, words[row.label_id]))
    for row in made:
        found = Mask(
            label=words[row.label_id],
            rle=row.rle,
            height=row.height,
            width=row.width,
            area_share=row.area_share,
            box=(row.box_left, row.box_top, row.box_right, row.box_bottom),
            score=row.score,
        )
        answers[row.image_id][1].setdefault(names[row.model_id], []).append(found)
    return answers


def _of_images(table: Table) -> Select[Any]:
    return select(table).where(any_of(table.c.image_id, "images"), any_of(table.c.model_id, "models"))


def _best(row: Row[Any]) -> list[tuple[int, float]]:
    """Return the labels in a row of `result` with their scores, best first."""
    found = row._mapping
    labels = [(found[f"label_{rank}"], found[f"score_{rank}"]) for rank in range(1, LABELS + 1)]
    return [(label, score) for label, score in labels if label is not None]


def unique_names(models: Sequence[Model]) -> dict[str, str]:
    """Return a name per model sha256: NAME, or NAME@VERSION if a run compares two versions."""
    names = [found.name for found in models]
    return {found.sha256: found.name if names.count(found.name) == 1 else found.title for found in models}
