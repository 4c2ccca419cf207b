"""The versions of a name while one transaction changes which of them is shown: it has their rows locked."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from tagmill.db.schema import label_set, model, rollout
from tagmill.errors import InputError
from tagmill.registry.models import Model, Stage
from tagmill.registry.rollout.running import RolloutKind


@dataclass(frozen=True)
class Version:
    """A version, by the numbers that SQL has for it."""

    id: int
    name: str
    number: int
    stage: Stage

    @property
    def title(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class Versions:
    """The versions of a name."""

    name_id: int
    by_id: dict[int, Version]
    #: the versions that are tried, by kind
    tried: dict[RolloutKind, Any]
    label_set: bool

    @property
    def production(self) -> Version | None:
        """The version in production."""
        return next((found for found in self.by_id.values() if found.stage is Stage.PRODUCTION), None)


def lock_versions(connection: Connection, chosen: Model) -> Versions:
    """Return the versions of a model's name. Others that change them wait until this transaction ends."""
    name_id = connection.execute(select(model.c.name_id).where(model.c.id == chosen.id)).scalar_one()
    columns = (model.c.id, model.c.name, model.c.version, model.c.stage)
    locked = select(*columns).where(model.c.name_id == name_id).order_by(model.c.id).with_for_update()
    rows = connection.execute(locked).all()
    tried = connection.execute(select(rollout).where(rollout.c.name_id == name_id)).all()
    of_set = connection.execute(select(label_set.c.model_id).where(label_set.c.model_id == chosen.id)).first()
    return Versions(
        name_id,
        {row.id: Version(row.id, row.name, row.version, Stage(row.stage)) for row in rows},
        {RolloutKind(row.kind): row for row in tried},
        of_set is not None,
    )


def require_usable(chosen: Version) -> None:
    """Raise InputError for a version that was retired."""
    if chosen.stage is Stage.RETIRED:
        raise InputError(f"{chosen.title} is retired; take that back with: tagmill model retire {chosen.title} --undo")
