"""Retire versions: no new run uses them, and they cannot come into production."""

from sqlalchemy import Engine, update

from tagmill.db.audit import Action, record
from tagmill.db.schema import model
from tagmill.errors import InputError, NothingToDo
from tagmill.registry.models import Stage, resolve
from tagmill.registry.rollout.versions import lock_versions


def retire(engine: Engine, wanted: str, reason: str | None = None, *, undo: bool = False) -> str:
    """Retire NAME@VERSION, or take that back with `undo`; return NAME@VERSION. Runs that have it go on.

    Raise InputError if it is in production or tried, and NothingToDo if it is as asked for already.
    """
    found = resolve(engine, wanted)
    with engine.begin() as connection:
        versions = lock_versions(connection, found)
        chosen = versions.by_id[found.id]
        if (chosen.stage is Stage.RETIRED) is not undo:
            raise NothingToDo(f"{chosen.title} is {'not retired' if undo else 'retired already'}")
        if chosen == versions.production:
            raise InputError(f"{chosen.title} is in production; promote another version, or roll back, first")
        for kind, tried in versions.tried.items():
            if tried.model_id == chosen.id:
                raise InputError(
                    f"{chosen.title} is the {kind} of {chosen.name}; stop that first: "
                    f"tagmill model {kind} {chosen.name} --stop"
                )
        stage = Stage.CANDIDATE if undo else Stage.RETIRED
        connection.execute(update(model).where(model.c.id == chosen.id).values(stage=stage))
        details = {"undo": True} if undo else None
        ids = {"name_id": versions.name_id, "to_id" if undo else "from_id": chosen.id}
        record(connection, Action.RETIRE, reason=reason, details=details, **ids)
    return chosen.title
