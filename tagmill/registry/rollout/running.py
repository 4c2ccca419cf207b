"""The shadows and canaries that run: which version is tried, and on what share of the products."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, select

from tagmill.db.connection import reading
from tagmill.db.schema import model, rollout


class RolloutKind(StrEnum):
    """How a version is tried beside the one of a run."""

    #: its results are stored and never shown
    SHADOW = "shadow"
    #: its results are shown for its share
    CANARY = "canary"


@dataclass(frozen=True)
class Rollout:
    """A version that is tried."""

    kind: RolloutKind
    model_id: int
    sha256: str
    #: NAME of the model, and what stands for it in `catalog_entry`
    name: str
    name_id: int
    version: int
    #: of all products, above 0 to 1
    share: float
    #: the further column of entries that names their product; None: the key stands for it
    product: str | None
    #: Unix seconds
    since: float

    @property
    def title(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.name}@{self.version}"


#: the shadows and canaries of all models
ROLLOUTS = (
    select(rollout, model.c.sha256, model.c.name, model.c.version)
    .join(model, model.c.id == rollout.c.model_id)
    .order_by(rollout.c.name_id, rollout.c.kind)
)


def running_rollouts(engine: Engine) -> tuple[Rollout, ...]:
    """Return the shadows and canaries of all models, by name and kind."""
    with reading(engine, snapshot=False) as connection:
        return tuple(map(rollout_of, connection.execute(ROLLOUTS)))


def rollout_of(row: Any) -> Rollout:
    """Return the rollout of a row of `ROLLOUTS`."""
    return Rollout(
        RolloutKind(row.kind),
        *(row.model_id, row.sha256, row.name, row.name_id, row.version),
        *(row.share, row.product, row.since),
    )
