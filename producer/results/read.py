"""Read the results of a run from SQL, image by image, in flat memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Select,
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
from tagmill.redact import shown_uri
from tagmill.registry.models import Model, models_by_sha256
from tagmill.text import normalize

#: images per round of queries
PAGE = 2000

Columns = tuple[Column[Any], ...]
_ENTRY = (entry.c.position, entry.c.image_key, entry.c.uri)
_FAILURE = (image_failure.c.position, image_failure.c.error_code, image_failure.c.error_detail)
_IMAGE = (image_content.c.id, image_content.c.sha256, image_content.c.width, image_content.c.height)
_RESULT = (
    *(result.c.image_id, result.c.model_id, result.c.created_at),
    *(result.c[f"label_{rank}"] for rank in range(1, LABELS + 1)),
    *(result.c[f"score_{rank}"] for rank in range(1, LABELS + 1)),
)
#: the columns of labels and of scores in `_RESULT`, best first
_LABELS, _SCORES = slice(3, 3 + LABELS), slice(3 + LABELS, 3 + 2 * LABELS)
_FURTHER = (further_label.c.image_id, further_label.c.model_id, further_label.c.label_id, further_label.c.score)


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
        """Return JSON values; the location is without its secrets."""
        answers: dict[str, Any] = {}
        for name, labels in self.labels.items():
            answers[name] = {"labels": [{"label": text, "score": score} for text, score in labels]}
        for name, masks in self.masks.items():
            answers.setdefault(name, {})["masks"] = [found.to_json() for found in masks]
        facts = ("status", "error_code", "error_detail", "sha256", "width", "height")
        named = {"image_key": self.image_key, "uri": shown_uri(self.uri)}
        return named | {name: getattr(self, name) for name in facts} | {"models": answers}


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
    last, batches, words = -1, _OpenBatches(run_id), _Words()
    while True:
        with reading(engine) as connection:
            _look_up_by_index(connection)
            found = select(*_ENTRY).where(entry.c.run_id == run_id, entry.c.position > last)
            page = connection.execute(found.order_by(entry.c.position).limit(PAGE)).all()
            if not page:
                return
            first, last = page[0].position, page[-1].position
            tagged = batches.image_ids(connection, first, last)
            failed = _failures(connection, run_id, first, last)
            images = _by_id(connection, _IMAGE, tagged.values())
            answers = _answers(connection, list(images), models, words)
        for position, image_key, uri in page:
            if image := images.get(tagged.get(position, -1)):
                image_id, sha256, width, height = image
                facts = (sha256, width, height, *answers[image_id])
                yield ImageResult(position, image_key, uri, ImageStatus.TAGGED, None, None, *facts)
            elif failure := failed.get(position):
                _, code, detail = failure
                yield ImageResult(position, image_key, uri, ImageStatus.FAILED, code, detail, None, None, None)
            else:
                yield ImageResult(position, image_key, uri, ImageStatus.PENDING, None, None, None, None, None)


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
        outcomes = _by_id(connection, tuple(batch_outcome.c), [found.id for found in self._open])
        return {
            at: image
            for found in self._open
            if found.id in outcomes
            for at, image in zip(positions_of(found), outcomes[found.id].image_ids, strict=True)
            if image is not None and first <= at <= last
        }


def _by_id(connection: Connection, columns: Columns, ids: Iterable[int]) -> dict[int, Any]:
    """Return the rows of a table with these keys, by key, which is the first of the columns."""
    found = connection.execute(select(*columns).where(any_of(columns[0], "ids")), {"ids": list(ids)})
    return {row[0]: row for row in found.all()}


def _failures(connection: Connection, run_id: int, first: int, last: int) -> dict[int, Any]:
    """Return position -> position, code and detail of each failure from position `first` to `last`."""
    mine = and_(image_failure.c.run_id == run_id, image_failure.c.position.between(first, last))
    return {row[0]: row for row in connection.execute(select(*_FAILURE).where(mine)).all()}


class _Words:
    """The labels of a run: number -> text. Each is read once."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def read(self, connection: Connection, numbers: Iterable[int]) -> dict[int, str]:
        """Return the texts of at least these numbers."""
        if new := set(numbers) - self._known.keys() - {None}:
            found = _by_id(connection, (label_name.c.id, label_name.c.name), new)
            self._known |= {row.id: normalize(row.name) for row in found.values()}
        return self._known


#: image id -> labels and masks by the name of the model
_Answers = dict[int, tuple[dict[str, list[tuple[str, float]]], dict[str, list[Mask]]]]


def _answers(connection: Connection, images: Sequence[int], models: Sequence[Model], known: _Words) -> _Answers:
    unique = unique_names(models)
    names = {found.id: unique[found.sha256] for found in models}
    of_these = {"images": images, "models": list(names)}
    results = connection.execute(_of_images(_RESULT), of_these).all()
    further = connection.execute(_of_images(_FURTHER).order_by(further_label.c.rank), of_these).all()
    masks = connection.execute(_of_images(tuple(result_mask.c)), of_these).all()
    labels = chain(*(row[_LABELS] for row in results), (row[2] for row in further), (row.label_id for row in masks))
    words = known.read(connection, labels)
    answers: _Answers = defaultdict(lambda: ({}, {}))
    if len(models) > 1:  # the results of an image in the order in which they were made
        shas = {found.id: found.sha256 for found in models}
        results = sorted(results, key=lambda row: (row[2], shas[row[1]]))
    for row in results:
        pairs = zip(row[_LABELS], row[_SCORES], strict=True)
        if best := [(words[label], score) for label, score in pairs if label is not None]:
            answers[row[0]][0][names[row[1]]] = best
    for image_id, model_id, label, score in further:
        answers[image_id][0][names[model_id]].append((words[label], score))
    order = {(row[0], row[1]): number for number, row in enumerate(results)} if masks else {}
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


def _of_images(columns: Columns) -> Select[Any]:
    of_images = any_of(columns[0], "images")
    return select(*columns).where(of_images, any_of(columns[0].table.c.model_id, "models"))


def unique_names(models: Sequence[Model]) -> dict[str, str]:
    """Return a name per model sha256: NAME, or NAME@VERSION if a run compares two versions."""
    names = [found.name for found in models]
    return {found.sha256: found.name if names.count(found.name) == 1 else found.title for found in models}
