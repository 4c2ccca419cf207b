"""Read what two models said of the same images, in flat memory: of all images, or of the entries of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnClause, Connection, Engine, Integer, bindparam, column, select, table, text

from tagmill.db.any_of import any_of
from tagmill.db.connection import look_up_by_index, reading
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named
from tagmill.tasks.metrics import GIVEN

#: images that are in memory at a time
PAGE = 5_000

#: the labels that a model gave an image: id of `label_name` -> score
Given = Mapping[int, float]

_SHARED = """
SELECT a.image_id FROM result AS a
WHERE a.model_id = :a AND a.image_id > :last
    AND EXISTS (SELECT 1 FROM result AS b WHERE b.image_id = a.image_id AND b.model_id = :b)
ORDER BY a.image_id LIMIT :page
"""
# Not joined with its entries: PostgreSQL does not know how many there are when a run has just ended.
_OF_RUN = "SELECT position, image_id FROM tagged_entry WHERE run_id = :run"


@dataclass(frozen=True)
class SharedImage:
    """An image that two models have a result of; of a run, with its entry."""

    image_id: int
    a: Given
    b: Given
    image_key: str = ""
    uri: str = ""
    extra: str | None = None


def shared_images(engine: Engine, a: Model, b: Model, run_id: int | None = None) -> Iterator[SharedImage]:
    """Yield the images that both models have a result of. Of a run, an image comes as often as the manifest has it."""
    yield from _all(engine, a, b) if run_id is None else _of_run(engine, a, b, run_id)


def answers(connection: Connection, a: Model, b: Model, ids: Sequence[int]) -> dict[int, tuple[Given, Given]]:
    """Return what the models gave to those of the images that both have a result of, by image id."""
    results = _rows(connection, "result", ("label_1", "score_1"), a, b, ids)
    has = {(row.image_id, row.model_id): row for row in results}
    both = [image for image in dict.fromkeys(ids) if (image, a.id) in has and (image, b.id) in has]
    given: dict[tuple[int, int], dict[int, float]] = {key: {} for key in has}
    task = task_named(a.task)
    if task.gives_masks or task.multilabel:
        source = "result_mask" if task.gives_masks else "result_label"
        for row in _rows(connection, source, ("label_id", "score"), a, b, both):
            if task.gives_masks or (row.label_id is not None and row.score >= GIVEN):
                given[row.image_id, row.model_id][row.label_id] = row.score
    else:
        for key, row in has.items():
            if row.label_1 is not None:
                given[key][row.label_1] = row.score_1
    return {image: (given[image, a.id], given[image, b.id]) for image in both}


def _all(engine: Engine, a: Model, b: Model) -> Iterator[SharedImage]:
    last = 0
    while True:
        with reading(engine) as connection:
            look_up_by_index(connection)
            ids = connection.execute(text(_SHARED), {"a": a.id, "b": b.id, "last": last, "page": PAGE}).scalars().all()
            if not ids:
                return
            found = answers(connection, a, b, ids)
        last = ids[-1]
        yield from (SharedImage(image, *given) for image, given in found.items())


def _of_run(engine: Engine, a: Model, b: Model, run_id: int) -> Iterator[SharedImage]:
    with reading(engine) as connection:
        look_up_by_index(connection)
        tagged = connection.execute(text(_OF_RUN).execution_options(yield_per=PAGE), {"run": run_id})
        for rows in tagged.partitions(PAGE):
            found = answers(connection, a, b, [row.image_id for row in rows])
            shared = {row.position: row.image_id for row in rows if row.image_id in found}
            for row in _entries(connection, run_id, list(shared)):
                image = shared[row.position]
                yield SharedImage(image, *found[image], row.image_key, row.uri, row.extra)


def _entries(connection: Connection, run_id: int, positions: Sequence[int]) -> Sequence[Any]:
    position = column("position", Integer)
    of_run = table("entry", position, *(column(name) for name in ("run_id", "image_key", "uri", "extra")))
    chosen = select(of_run).where(of_run.c.run_id == run_id, any_of(of_run.c.position, "positions"))
    return connection.execute(chosen.order_by(of_run.c.position), {"positions": positions}).all()


def _rows(
    connection: Connection, source: str, columns: tuple[str, ...], a: Model, b: Model, ids: Sequence[int]
) -> Sequence[Any]:
    read: list[ColumnClause[Any]] = [column(name) for name in ("model_id", *columns)]
    from_table = table(source, column("image_id", BigInteger), *read)
    wanted = [from_table.c.image_id, from_table.c.model_id, *(from_table.c[name] for name in columns)]
    of_both = from_table.c.model_id.in_(bindparam("models", expanding=True))
    statement = select(*wanted).where(any_of(from_table.c.image_id, "images"), of_both)
    return connection.execute(statement, {"images": ids, "models": [a.id, b.id]}).all()
