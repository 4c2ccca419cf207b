"""Submissions that have an id (`tagmill submit --id`): a job that is repeated finds its run instead of doubling it."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, select

from tagmill.db.connection import reading
from tagmill.db.schema import model, run, run_model
from tagmill.errors import InputError

#: characters of an id
LONGEST_ID = 200


class SubmittedBefore(Exception):
    """Another process wrote a run of this id while this one was about to."""


@dataclass(frozen=True)
class EarlierRun:
    """The run of an id, with what was submitted under it."""

    run: int
    source: str
    #: names without versions, sorted
    models: tuple[str, ...]


def check_id(name: str) -> str:
    """Return the id of a submission. Raise InputError if it cannot be one."""
    if 1 <= len(name) <= LONGEST_ID and name.isprintable() and name == name.strip():
        return name
    raise InputError(f"id {name!r}: must be 1 to {LONGEST_ID} printable characters, with no space at either end")


def find_submission(engine: Engine, name: str) -> EarlierRun | None:
    """Return the run of an id; None if nothing was submitted under it."""
    names = select(model.c.name).join(run_model, run_model.c.model_id == model.c.id)
    with reading(engine) as connection:
        found = connection.execute(select(run.c.id, run.c.source).where(run.c.submission == name)).one_or_none()
        if found is None:
            return None
        models = connection.execute(names.where(run_model.c.run_id == found.id)).scalars()
        return EarlierRun(found.id, found.source, tuple(sorted(set(models))))


def require_same(earlier: EarlierRun, name: str, source: str, models: Iterable[str]) -> None:
    """Raise InputError if an id was used for other sources or models."""
    wanted = tuple(sorted(set(models)))
    if (earlier.source, earlier.models) != (source, wanted):
        was = f"{earlier.source} with {', '.join(earlier.models)}"
        raise InputError(f"id {name}: is that of run {earlier.run}, which is {was}; choose another id")
