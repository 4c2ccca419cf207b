"""Which entries of a claimed batch a shadow or a canary tags, too."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, bindparam, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import entry
from tagmill.extra import parse_extra, text_of
from tagmill.records import PendingImage
from tagmill.registry.rollout.running import Rollout
from tagmill.registry.rollout.share import point_of

_EXTRA = select(entry.c.position, entry.c.extra).where(
    entry.c.run_id == bindparam("run"), any_of(entry.c.position, "positions")
)


@dataclass(frozen=True)
class Trial:
    """A shadow or canary that runs beside a model of the run, and the entries of the batch in its share."""

    rollout: Rollout
    #: position -> where its product lies among all, 0 to 1
    points: Mapping[int, float]


def trials_of(
    engine: Engine, run_id: int, images: Sequence[PendingImage], rollouts: Iterable[Rollout]
) -> tuple[Trial, ...]:
    """Return what tags entries of a batch, too, of the shadows and canaries that its run follows."""
    found = []
    extras: dict[int, str | None] = {}
    for rollout in rollouts:
        if rollout.product is not None and not extras and images:
            extras = _extras(engine, run_id, images)
        points = {
            image.position: point_of(rollout.name, _product(image, rollout.product, extras.get(image.position)))
            for image in images
        }
        chosen = {position: point for position, point in points.items() if point < rollout.share}
        if chosen:
            found.append(Trial(rollout, chosen))
    return tuple(found)


def _product(image: PendingImage, column: str | None, extra: str | None) -> str:
    """Return what names the product of an entry: a further column of it, else its key."""
    named = text_of(parse_extra(extra).get(column)) if column is not None and extra else ""
    return named or image.image_key


def _extras(engine: Engine, run_id: int, images: Iterable[PendingImage]) -> dict[int, str | None]:
    asked = {"run": run_id, "positions": [image.position for image in images]}
    with reading(engine, snapshot=False) as connection:
        return {row.position: row.extra for row in connection.execute(_EXTRA, asked)}
