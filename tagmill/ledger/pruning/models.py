"""Which models nothing uses any more."""

from collections.abc import Collection

from sqlalchemy import Engine, select

from tagmill.db.audit import Action
from tagmill.db.connection import reading
from tagmill.db.schema import (
    audit_event,
    catalog_entry,
    label_set,
    label_set_run,
    model,
    rollout,
    run_model,
    shown_instead,
)
from tagmill.registry.models import Model, list_models

_PRODUCTION = "production"


def unused_models(engine: Engine, before: float, gone: Collection[int] = ()) -> list[Model]:
    """Return the models that no run and no key of the catalog shows, and that nobody may go back to.

    These stay: what is in production or tried beside it, what it replaced last, what was promoted since `before` or
    registered since then, and what label sets are made of. `gone` are runs that do not count.
    """
    with reading(engine) as connection:
        kept = set(connection.execute(select(model.c.id).where(model.c.stage == _PRODUCTION)).scalars())
        kept |= set(connection.execute(select(model.c.id).where(model.c.created_at >= before)).scalars())
        for column in (rollout.c.model_id, shown_instead.c.model_id, shown_instead.c.shown_id, label_set.c.base_id):
            kept |= set(connection.execute(select(column)).scalars())
        for table in (run_model, label_set_run):
            pairs = connection.execute(select(table.c.model_id, table.c.run_id)).all()
            kept |= {model_id for model_id, run_id in pairs if run_id not in gone}
        changed = audit_event.c.action.in_([Action.PROMOTE.value, Action.ROLLBACK.value])
        events = select(audit_event.c.at, audit_event.c.name_id, audit_event.c.from_id, audit_event.c.to_id)
        former = {}
        for row in connection.execute(events.where(changed).order_by(audit_event.c.id)):
            former[row.name_id] = row.from_id
            kept |= {row.from_id, row.to_id} if row.at >= before else set()
        kept |= set(former.values())
        unused = [found for found in list_models(engine) if found.id not in kept]
        if unused:  # else the whole table is read for nothing
            shown = set(connection.execute(select(catalog_entry.c.model_id).distinct()).scalars())
            unused = [found for found in unused if found.id not in shown]
    return unused
