"""Describe batches in a few words, as Celery's events and Flower show them."""

from collections.abc import Iterable

from sqlalchemy import Engine, bindparam, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import batch, model, run_model

_IMAGES = select(batch.c.id, batch.c.images).where(any_of(batch.c.id, "batches"))
_MODELS = (
    select(model.c.name, model.c.version)
    .join(run_model, run_model.c.model_id == model.c.id)
    .where(run_model.c.run_id == bindparam("run"))
    .order_by(model.c.name, model.c.version)
)


def describe(engine: Engine, batches: Iterable[tuple[int, int]]) -> dict[int, str]:
    """Return batch id -> its number of images and its models, for each (run id, batch id) that is in SQL."""
    run_of = {batch_id: run_id for run_id, batch_id in batches}
    with reading(engine, snapshot=False) as connection:
        images = connection.execute(_IMAGES, {"batches": list(run_of)}).all()
        models = {
            run_id: ", ".join(f"{row.name}@{row.version}" for row in connection.execute(_MODELS, {"run": run_id}))
            for run_id in set(run_of.values())
        }
    return {row.id: f"images={row.images}, model={models[run_of[row.id]]}" for row in images}
