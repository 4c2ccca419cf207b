"""The keys and locations of images: as the catalog shows them now, or as the run had them that tagged them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Connection, text

from tagmill.db.types import Integers
from tagmill.ledger.batches.positions import positions_of
from tagmill.locations.redact import shown_uri

#: keys of one image that are listed: a placeholder may be shown by thousands
MOST_KEYS = 10

_SHOWN = """
SELECT image_content.id AS image_id, image_content.sha256, found.image_key, found.keys, (
    SELECT entry.uri FROM catalog_entry AS shown
    JOIN entry ON entry.run_id = shown.run_id AND entry.position = shown.position
    WHERE shown.image_key = found.image_key AND shown.image_id = found.image_id LIMIT 1
) AS uri
FROM image_content LEFT JOIN (
    SELECT image_id, image_key, row_number() OVER (PARTITION BY image_id ORDER BY image_key) AS number,
        count(*) OVER (PARTITION BY image_id) AS keys
    FROM (SELECT DISTINCT image_id, image_key FROM catalog_entry WHERE image_id IN ({images})) AS shown
) AS found ON found.image_id = image_content.id AND found.number <= :most
WHERE image_content.id IN ({images}) ORDER BY image_content.id, found.number
"""
_BATCHES = """
SELECT result.image_id, batch.run_id, batch.positions, batch.first_position, batch.last_position,
    batch_outcome.image_ids
FROM result
JOIN batch ON batch.id = result.batch_id
JOIN batch_outcome ON batch_outcome.batch_id = batch.id
WHERE result.model_id = :model AND result.image_id IN ({images})
"""
_ENTRY = text("SELECT image_key, uri FROM entry WHERE run_id = :run AND position = :position")


@dataclass(frozen=True)
class ShownKey:
    """A key of an image, and where the image was read."""

    key: str
    uri: str


@dataclass
class ImageKeys:
    """What shows an image, or showed it."""

    sha256: str = ""
    #: the first ten, by key
    keys: list[ShownKey] = field(default_factory=list)
    #: how many keys of the catalog show it now
    count: int = 0


def keys_of(connection: Connection, images: Iterable[int], full_urls: bool = False) -> dict[int, ImageKeys]:
    """Return the keys that show these images now, by the id of the image; secrets of URLs as `***`."""
    found: dict[int, ImageKeys] = {image: ImageKeys() for image in images}
    if found:
        statement = text(_SHOWN.format(images=_listed(found)))
        for row in connection.execute(statement, {"most": MOST_KEYS}):
            of_image = found[row.image_id]
            of_image.sha256 = bytes(row.sha256).hex()
            if row.image_key is not None:
                of_image.count = row.keys
                of_image.keys.append(ShownKey(row.image_key, row.uri if full_urls else shown_uri(row.uri)))
    return found


def add_former_keys(
    connection: Connection, model_id: int, found: dict[int, ImageKeys], full_urls: bool = False
) -> None:
    """Add, to images that the catalog no longer shows, an entry of the batch that inferred them for a model."""
    gone = [image for image, shown in found.items() if not shown.count]
    if not gone:
        return
    statement = text(_BATCHES.format(images=_listed(gone)))
    typed = statement.columns(positions=Integers(), image_ids=Integers(BigInteger))
    for row in connection.execute(typed, {"model": model_id}):
        positions = positions_of(row)
        if row.image_id in row.image_ids:
            position = positions[list(row.image_ids).index(row.image_id)]
            entry = connection.execute(_ENTRY, {"run": row.run_id, "position": position}).first()
            if entry is not None:  # docs/operations/prune.md says how to delete entries that were replaced
                uri = entry.uri if full_urls else shown_uri(entry.uri)
                found[row.image_id].keys.append(ShownKey(entry.image_key, uri))


def _listed(images: "Sequence[int] | dict[int, ImageKeys]") -> str:
    return ", ".join(f"{image:d}" for image in images)
