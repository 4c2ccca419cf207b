"""Label everything that has embeddings with a label set, as an inference of its own that views and results show.

It goes over the images in the order of their ids. A transaction writes the results that some thousand images lack, and
what the catalog shows for the keys of these images, so a call that was interrupted is continued by the next one. A
label set is never a model of a run: workers would look for its bundle. The runs whose images it labeled are in
`label_set_run`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, bindparam, func, select, text
from sqlalchemy.exc import IntegrityError

from tagmill.db.any_of import any_of
from tagmill.db.connection import epoch_now, reading
from tagmill.db.schema import embedding, run, run_model
from tagmill.db.vectors.read import vectors_of
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger import catalog
from tagmill.ledger.labels.rows import Answers, ResultWriter
from tagmill.registry.label_sets import RegisteredLabelSet

#: images of a transaction
CHUNK = 8192

Ids = NDArray[np.int64]


@dataclass
class Applied:
    """What one call did."""

    #: images with an embedding
    images: int = 0
    #: results that were new
    labeled: int = 0
    #: of these, images that no category is near
    unknown: int = 0
    #: rows of the catalog that show something else than before
    shown: int = 0


_RUNS_OF = select(run_model.c.run_id).where(run_model.c.model_id == bindparam("base")).order_by(run_model.c.run_id)
_NEXT_IDS = (
    select(embedding.c.image_id)
    .where(embedding.c.model_id == bindparam("base"), embedding.c.image_id > bindparam("after"))
    .order_by(embedding.c.image_id)
    .limit(bindparam("chunk"))
)
_OTHER_VERSIONS = text("""
DELETE FROM label_set_run
WHERE run_id = :run AND model_id IN (SELECT id FROM model WHERE name_id = :name AND id <> :model)
""")
_APPLIED = text("""
INSERT INTO label_set_run (run_id, model_id, applied_at) VALUES (:run, :model, :now)
ON CONFLICT (run_id, model_id) DO UPDATE SET applied_at = excluded.applied_at
""")
# Of a run that has the model: the row may have its canary, which tagged the same image, too.
# The rows are in the order of their keys: two calls that write the same rows wait for each other and do not deadlock.
_SHOW = """
INSERT INTO catalog_entry (image_key, name_id, place, run_id, position, image_id, model_id, changed_at)
SELECT shown.image_key, :name, 0, shown.run_id, shown.position, shown.image_id, :model, :now
FROM catalog_entry AS shown
WHERE shown.image_id BETWEEN :first AND :last {of_runs}
    AND shown.name_id = (SELECT name_id FROM model WHERE id = :base) AND shown.place = 0
    AND EXISTS (SELECT 1 FROM run_model WHERE run_model.run_id = shown.run_id AND run_model.model_id = :base)
    AND EXISTS (SELECT 1 FROM result WHERE result.image_id = shown.image_id AND result.model_id = :model)
    AND NOT EXISTS (
        SELECT 1 FROM catalog_entry AS mine
        WHERE mine.image_key = shown.image_key AND mine.name_id = :name AND mine.place = 0
            AND mine.run_id >= shown.run_id AND mine.model_id = :model AND mine.image_id = shown.image_id
    )
ORDER BY shown.image_key
"""


def apply_label_set(
    engine: Engine,
    found: RegisteredLabelSet,
    runs: Sequence[int] = (),
    writer: str = "",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Applied:
    """Label what the model of the label set has embeddings of: of all images, or of those of some runs.

    `writer` names this process, HOST:PID. `progress` is told the images done, and of how many. Raise InputError for a
    run that does not exist or lacks the model, and NothingToDo if there are no embeddings.
    """
    runs_of_base = _runs_of(engine, found)
    _check_runs(engine, found, runs, runs_of_base)
    of_runs = _images_of(engine, runs) if runs else None
    total = _count(engine, found) if of_runs is None else len(of_runs)
    writing = ResultWriter(engine, found, writer)
    done = Applied()
    labeled = ((ids, _labeled(engine, found, writing, ids)) for ids in _chunks(engine, found, of_runs))
    for ids, answers in _made_ahead(labeled):
        _write(engine, found, writing, ids, answers, runs, done)
        done.images += len(ids)
        progress(done.images, total)
    if not done.images:
        raise NothingToDo(
            f"{found.base} has no embeddings {'of these runs' if runs else 'yet'}; tag the catalog with it first"
        )
    _note_runs(engine, found, runs or runs_of_base)
    return done


def _labeled(engine: Engine, found: RegisteredLabelSet, writing: ResultWriter, ids: Ids) -> Answers:
    """Return the results that some images lack."""
    with reading(engine, snapshot=False) as connection:
        missing, batches = writing.missing(connection, ids)
        images, vectors = vectors_of(connection, found.base_id, missing.tolist())
    return writing.answers(images, vectors, batches)


def _write(
    engine: Engine,
    found: RegisteredLabelSet,
    writing: ResultWriter,
    ids: Ids,
    answers: Answers,
    runs: Sequence[int],
    done: Applied,
) -> None:
    """Write results and what the catalog shows of some images in one transaction, and count them in `done`."""
    try:
        with engine.begin() as connection:
            written = writing.write_new(connection, answers)
            shown = _show(connection, found, ids, runs)
    except IntegrityError:  # another call labels the same images at the same time
        with engine.begin() as connection:
            written = writing.write_missing(connection, answers)
            shown = _show(connection, found, ids, runs)
    done.labeled += written.labeled
    done.unknown += written.unknown
    done.shown += shown


def _made_ahead(items: Iterator[tuple[Ids, Answers]]) -> Iterator[tuple[Ids, Answers]]:
    """Yield items while a thread makes the next one: the database writes some images while it reads others."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def _show(connection: Connection, found: RegisteredLabelSet, ids: Ids, runs: Sequence[int]) -> int:
    """Have the catalog show the label set for the keys that show these images; return how many rows changed."""
    numbers = ", ".join(f"{number:d}" for number in runs)
    statement = _SHOW.format(of_runs=f"AND shown.run_id IN ({numbers})" if runs else "") + catalog.REPLACE
    now = math.ceil(connection.execute(select(epoch_now())).scalar_one())
    values = {"name": found.name_id, "model": found.model.id, "base": found.base_id, "now": now}
    between = {"first": int(ids[0]), "last": int(ids[-1])}
    return int(connection.execute(text(statement), values | between).rowcount)


def _chunks(engine: Engine, found: RegisteredLabelSet, of_runs: Ids | None) -> Iterator[Ids]:
    """Yield the ids of the images that may have an embedding, in order, some thousand at a time."""
    if of_runs is not None:
        yield from (of_runs[at : at + CHUNK] for at in range(0, len(of_runs), CHUNK))
        return
    after = -1
    while True:
        with reading(engine, snapshot=False) as connection:
            asked = {"base": found.base_id, "after": after, "chunk": CHUNK}
            ids = connection.execute(_NEXT_IDS, asked).scalars().all()
        if not ids:
            return
        yield np.array(ids, np.int64)
        after = ids[-1]


def _runs_of(engine: Engine, found: RegisteredLabelSet) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(_RUNS_OF, {"base": found.base_id}).scalars())


def _count(engine: Engine, found: RegisteredLabelSet) -> int:
    counted = select(func.count()).select_from(embedding).where(embedding.c.model_id == found.base_id)
    with reading(engine) as connection:
        return int(connection.execute(counted).scalar_one())


def _check_runs(engine: Engine, found: RegisteredLabelSet, runs: Sequence[int], runs_of_base: Sequence[int]) -> None:
    with reading(engine) as connection:
        known = set(connection.execute(select(run.c.id).where(any_of(run.c.id, "runs")), {"runs": runs}).scalars())
    for number in runs:
        if number not in known:
            raise InputError(f"no run {number}; see `tagmill run list`")
        if number not in runs_of_base:
            raise InputError(
                f"run {number} was not tagged with {found.base}, whose embeddings {found.model.title} labels"
            )


def _images_of(engine: Engine, runs: Sequence[int]) -> Ids:
    """Return the ids of the tagged images of some runs, sorted, each once."""
    tagged = text("SELECT DISTINCT image_id FROM tagged_entry WHERE run_id = :run")
    with reading(engine) as connection:
        found = [connection.execute(tagged, {"run": number}).scalars().all() for number in runs]
    return np.unique(np.array([image for images in found for image in images], np.int64))


def _note_runs(engine: Engine, found: RegisteredLabelSet, runs: Sequence[int]) -> None:
    """Have the runs show this version of the label set, and no other."""
    with engine.begin() as connection:
        now = connection.execute(select(epoch_now())).scalar_one()
        rows = [{"run": number, "model": found.model.id, "name": found.name_id, "now": now} for number in runs]
        connection.execute(_OTHER_VERSIONS, rows)
        connection.execute(_APPLIED, rows)
