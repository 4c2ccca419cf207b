"""Read the images of a run, in the order of its manifest, in flat memory."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, and_, func, select

from producer.output.image_result import ImageResult
from producer.output.model_names import unique_names
from producer.output.read import pages
from producer.output.read.answers import AnswerReader, chosen
from producer.output.read.models import canary_models
from producer.output.read.pages import IMAGE, by_id
from tagmill.db.connection import look_up_by_index, reading
from tagmill.db.schema import batch, batch_outcome, canary_entry, entry, image_failure
from tagmill.ledger.batches.positions import positions_of
from tagmill.outcomes import ImageStatus
from tagmill.registry.models import Model

_ENTRY = (entry.c.position, entry.c.image_key, entry.c.uri, entry.c.extra)
_FAILURE = (image_failure.c.position, image_failure.c.error_code, image_failure.c.error_detail)
_FAILED_ENTRY = (*_FAILURE, entry.c.image_key, entry.c.uri, entry.c.extra)


def read_results(
    engine: Engine,
    run_id: int,
    models: Sequence[Model],
    names: Mapping[str, str] | None = None,
    since: float | None = None,
    *,
    with_maps: bool = False,
) -> Iterator[ImageResult]:
    """Yield every image of a run in the order of its manifest.

    `names` are the names of the models by sha256, as of `unique_names`. An entry that shows a canary has its answer if
    it is among `models`, and not that of the run's own version. With `since`, yield the images whose batch was finished
    at that time or later, in Unix seconds. `with_maps` adds their activation maps.
    """
    last, batches = -1, _OpenBatches(run_id, since)
    names = names or unique_names(models)
    tried = _Canaries(engine, run_id, models, names)
    answering = AnswerReader(models, tried.titles if tried else names)
    while True:
        with reading(engine) as connection:
            look_up_by_index(connection)
            found = select(*_ENTRY).where(entry.c.run_id == run_id, entry.c.position > last)
            page = connection.execute(found.order_by(entry.c.position).limit(pages.PAGE)).all()
            if not page:
                return
            first, last = page[0].position, page[-1].position
            tagged = batches.image_ids(connection, first, last)
            failed = _failures(connection, run_id, first, last, since)
            images = by_id(connection, IMAGE, tagged.values())
            answers = answering.read(connection, list(images))
            maps = answering.read_maps(connection, list(images)) if with_maps else {}
            if tried:
                tried.read(connection, first, last)
        for position, image_key, uri, extra in page:
            if image := images.get(tagged.get(position, -1)):
                image_id, sha256, width, height = image
                said, of_image = answers[image_id], maps.get(image_id, {})
                if tried:
                    shown = tried.shown(position)
                    said = chosen(said, shown)
                    of_image = {new: of_image[old] for old, new in shown if old in of_image}
                facts = (sha256, width, height, *said, run_id, extra)
                yield ImageResult(position, image_key, uri, ImageStatus.TAGGED, None, None, *facts, maps=of_image)
            elif failure := failed.get(position):
                yield _failed(run_id, failure, image_key, uri, extra)
            elif since is None:
                yield ImageResult(
                    *(position, image_key, uri, ImageStatus.PENDING, None, None, None, None, None),
                    run_id=run_id,
                    extra=extra,
                )


def read_failures(engine: Engine, run_id: int, since: float | None = None) -> Iterator[ImageResult]:
    """Yield the failed images of a run in the order of its manifest; `since` as in `read_results`."""
    last = -1
    of_entry = and_(entry.c.run_id == image_failure.c.run_id, entry.c.position == image_failure.c.position)
    mine = select(*_FAILED_ENTRY).join(entry, of_entry).where(image_failure.c.run_id == run_id)
    if since is not None:
        mine = mine.join(batch, batch.c.id == image_failure.c.batch_id).where(batch.c.finished_at >= since)
    while True:
        with reading(engine) as connection:
            look_up_by_index(connection)
            of_page = mine.where(image_failure.c.position > last).order_by(image_failure.c.position)
            page = connection.execute(of_page.limit(pages.PAGE)).all()
        if not page:
            return
        last = page[-1].position
        for found in page:
            yield _failed(run_id, found[:3], found.image_key, found.uri, found.extra)


def _failed(run_id: int, failure: Any, image_key: str, uri: str, extra: str | None) -> ImageResult:
    position, code, detail = failure
    facts = (code, detail, None, None, None)
    return ImageResult(position, image_key, uri, ImageStatus.FAILED, *facts, run_id=run_id, extra=extra)


class _Canaries:
    """The entries of a run that show a canary. It is false if there are none."""

    def __init__(self, engine: Engine, run_id: int, models: Sequence[Model], names: Mapping[str, str]) -> None:
        self._run_id = run_id
        self._name_of = {found.id: found.name for found in models}
        #: model id -> its title, and its name in the results
        self._names = {found.id: (found.title, names[found.sha256]) for found in models}
        #: sha256 -> title: what models are read under, because two may have one name in the results
        self.titles = {found.sha256: found.title for found in models}
        #: model id -> name of the model, of all canaries of the run
        self._canaries = {found.id: found.name for found in canary_models(engine, run_id)}
        self._of_page: dict[int, set[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._canaries)

    def read(self, connection: Connection, first: int, last: int) -> None:
        """Read which entries from position `first` to `last` show a canary."""
        between = (canary_entry.c.run_id == self._run_id, canary_entry.c.position.between(first, last))
        self._of_page = defaultdict(set)
        for row in connection.execute(select(canary_entry.c.position, canary_entry.c.model_id).where(*between)):
            self._of_page[row.position].add(row.model_id)

    def shown(self, position: int) -> list[tuple[str, str]]:
        """Return the title and the name in the results of each model that an entry shows."""
        canaries = self._of_page.get(position, set())
        replaced = {self._canaries[found] for found in canaries}
        return [
            self._names[found]
            for found, name in self._name_of.items()
            if found in canaries or (found not in self._canaries and name not in replaced)
        ]


class _OpenBatches:
    """The batches of a run whose entries are on the pages to come, read in the order of their first positions."""

    def __init__(self, run_id: int, since: float | None) -> None:
        self._chosen = batch.c.run_id == run_id
        if since is not None:
            self._chosen &= batch.c.finished_at >= since
        self._run_id = run_id
        #: batches up to this first position were read, up to this number
        self._read_to, self._newest = -1, -1
        self._open: list[Any] = []

    def image_ids(self, connection: Connection, first: int, last: int) -> dict[int, int]:
        """Return position -> image id of the images from `first` to `last` that were tagged."""
        columns = (batch.c.id, batch.c.positions, batch.c.first_position, batch.c.last_position)
        mine = select(*columns).where(self._chosen)
        newest = select(func.max(batch.c.seq)).where(batch.c.run_id == self._run_id)
        # A retry since the last page made further batches.
        made_since = and_(batch.c.seq > self._newest, batch.c.first_position <= self._read_to)
        self._open = [found for found in self._open if found.last_position >= first]
        self._open += connection.execute(mine.where(batch.c.first_position.between(self._read_to + 1, last))).all()
        self._open += connection.execute(mine.where(made_since)).all() if self._read_to >= 0 else []
        self._newest = connection.execute(newest).scalar_one()
        self._read_to = last
        outcomes = by_id(connection, tuple(batch_outcome.c), [found.id for found in self._open])
        return {
            at: image
            for found in self._open
            if found.id in outcomes
            for at, image in zip(positions_of(found), outcomes[found.id].image_ids, strict=True)
            if image is not None and first <= at <= last
        }


def _failures(connection: Connection, run_id: int, first: int, last: int, since: float | None) -> dict[int, Any]:
    """Return position -> position, code and detail of each failure from position `first` to `last`."""
    mine = select(*_FAILURE).where(image_failure.c.run_id == run_id, image_failure.c.position.between(first, last))
    if since is not None:
        mine = mine.join(batch, batch.c.id == image_failure.c.batch_id).where(batch.c.finished_at >= since)
    return {row[0]: row for row in connection.execute(mine).all()}
