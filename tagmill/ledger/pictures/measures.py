"""What is measured on pictures: write it, and look up which images lack it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields

from sqlalchemy import Connection, Engine, bindparam, delete, select

from tagmill.db.any_of import any_of
from tagmill.db.bulk import insert_new, upsert_rows
from tagmill.db.connection import reading
from tagmill.db.names import Ids
from tagmill.db.schema import image_content, label_name, model, picture, picture_attribute, result_mask
from tagmill.db.types import hash_head
from tagmill.measuring import VERSION, Measuring
from tagmill.records import Mask, PictureRow

#: (attribute id, value id, score)
AttributeIds = tuple[int, int, float]

_MEASURES = tuple(found.name for found in fields(PictureRow) if found.name not in ("image_sha256", "attributes"))
_PICTURE = ("image_id", "version", *_MEASURES)
_ATTRIBUTE = ("image_id", "attribute_id", "value_id", "score")
# A run that does not look for text leaves what another one found.
_KEPT = {name: f"coalesce(excluded.{name}, picture.{name})" for name in ("text_share", "text_boxes")}
_REPLACE = "ON CONFLICT (image_id) DO UPDATE SET " + ", ".join(
    f"{name} = {_KEPT.get(name, f'excluded.{name}')}" for name in _PICTURE[1:]
)
_DELETE_ATTRIBUTES = delete(picture_attribute).where(any_of(picture_attribute.c.image_id, "images"))
# Each is a lookup by one key, see `tagmill.ledger.known_results`.
_MEASURED = select(picture.c.image_id).where(
    any_of(picture.c.image_id, "images"), picture.c.version >= bindparam("version")
)
_WITH_TEXT = _MEASURED.where(picture.c.text_share.is_not(None))
_IMAGES = select(image_content.c.id, image_content.c.sha256).where(any_of(hash_head(image_content.c.sha256), "shas"))
_MODELS = select(model.c.id, model.c.sha256).where(any_of(model.c.sha256, "models"))
_MASKS = (
    select(result_mask, label_name.c.name)
    .join(label_name, label_name.c.id == result_mask.c.label_id)
    .where(any_of(result_mask.c.image_id, "images"))
)


def attribute_ids(labels: Ids, row: PictureRow) -> list[AttributeIds]:
    """Return the attributes of a picture with numbers for names. Call it before a transaction begins, see `Ids`."""
    return [(labels[attribute], labels[value], score) for attribute, value, score in row.attributes]


def store_pictures(
    connection: Connection, found: Iterable[tuple[PictureRow, Sequence[AttributeIds]]], ids: Mapping[str, int]
) -> None:
    """Write what was measured, in place of what an earlier version of the measures found.

    `ids`: image sha256 -> image id; pictures that are not in it are left out.
    """
    known = sorted(
        (ids[row.image_sha256], row, attributes) for row, attributes in found if row.image_sha256 in ids
    )  # each image is in it once, so rows are never compared
    if not known:
        return
    rows = [(image, VERSION, *(getattr(row, name) for name in _MEASURES)) for image, row, _ in known]
    upsert_rows(connection, picture, _PICTURE, rows, _REPLACE)
    connection.execute(_DELETE_ATTRIBUTES, {"images": [image for image, _, _ in known]})
    values = sorted((image, *attribute) for image, _, attributes in known for attribute in attributes)
    insert_new(connection, picture_attribute, _ATTRIBUTE, values)


def measured_ids(connection: Connection, images: Collection[int], measuring: Measuring) -> set[int]:
    """Return the ids of those images that lack no measure."""
    if not images:
        return set()
    statement = _WITH_TEXT if measuring.text else _MEASURED
    return set(connection.execute(statement, {"images": list(images), "version": VERSION}).scalars())


def measured_images(engine: Engine, shas: Iterable[str], measuring: Measuring) -> set[str]:
    """Return the sha256 of those images that lack no measure."""
    with reading(engine, snapshot=False) as connection:
        images = {row.id: row.sha256 for row in connection.execute(_IMAGES, {"shas": list(shas)})}
        return {images[image] for image in measured_ids(connection, images, measuring)}


def stored_masks(engine: Engine, shas: Iterable[str], models: Sequence[str]) -> dict[tuple[str, str], list[Mask]]:
    """Return (image sha256, model sha256) -> masks that are stored."""
    found: dict[tuple[str, str], list[Mask]] = {}
    with reading(engine, snapshot=False) as connection:
        images = {row.id: row.sha256 for row in connection.execute(_IMAGES, {"shas": list(shas)})}
        by_id = {row.id: row.sha256 for row in connection.execute(_MODELS, {"models": list(models)})}
        for row in connection.execute(_MASKS, {"images": list(images)}):
            if row.model_id in by_id:
                box = (row.box_left, row.box_top, row.box_right, row.box_bottom)
                mask = Mask(row.name, row.rle, row.height, row.width, row.area_share, box, row.score)
                found.setdefault((images[row.image_id], by_id[row.model_id]), []).append(mask)
    return found
