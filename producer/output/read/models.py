"""The models of runs and of the catalog, and the runs themselves."""

from collections.abc import Iterable

from sqlalchemy import Engine, select

from tagmill.db.connection import reading
from tagmill.db.schema import canary_entry, label_set_run, model, run, run_model, shown_entry
from tagmill.errors import InputError
from tagmill.registry.models import Model, models_by_sha256


def run_models(engine: Engine, run_id: int) -> list[Model]:
    """Return the models of a run and the label sets applied to it, sorted by name and version.

    Raise InputError if there is no such run.
    """
    run_created_at(engine, run_id)
    with reading(engine) as connection:
        chosen = [
            sha256
            for table in (run_model, label_set_run)
            for sha256 in connection.execute(
                select(model.c.sha256).join(table, table.c.model_id == model.c.id).where(table.c.run_id == run_id)
            ).scalars()
        ]
    return sorted_models(models_by_sha256(engine, chosen).values())


def canary_models(engine: Engine, run_id: int) -> list[Model]:
    """Return the canaries that entries of a run show instead of its own version."""
    shown = select(canary_entry.c.model_id).where(canary_entry.c.run_id == run_id).distinct()
    with reading(engine) as connection:
        chosen = list(connection.execute(select(model.c.sha256).where(model.c.id.in_(shown))).scalars())
    return sorted_models(models_by_sha256(engine, chosen).values()) if chosen else []


def run_created_at(engine: Engine, run_id: int) -> float:
    """Return when a run was submitted, in Unix seconds. Raise InputError if there is no such run."""
    with reading(engine) as connection:
        found = connection.execute(select(run.c.created_at).where(run.c.id == run_id)).scalar_one_or_none()
    if found is None:
        raise InputError(f"no run {run_id}; see `tagmill run list`")
    return float(found)


def catalog_models(engine: Engine) -> tuple[list[Model], set[str]]:
    """Return the models that the catalog shows, and the names of which a key shows two versions."""
    shown = select(shown_entry.c.model_id).distinct()
    compared = select(shown_entry.c.name_id).where(shown_entry.c.place > 0).distinct()
    with reading(engine) as connection:
        chosen = list(connection.execute(select(model.c.sha256).where(model.c.id.in_(shown))).scalars())
        names = set(connection.execute(select(model.c.name).where(model.c.id.in_(compared))).scalars())
    return sorted_models(models_by_sha256(engine, chosen).values()), names


def sorted_models(models: Iterable[Model]) -> list[Model]:
    """Return the models by name and version."""
    return sorted(models, key=lambda found: (found.name, found.version))
