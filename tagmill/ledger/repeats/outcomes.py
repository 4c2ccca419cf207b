"""Look up the first entries of repeated ones and their outcomes, and store the images that others will ask for."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, Engine, Integer, bindparam, select

from tagmill.db.any_of import any_of
from tagmill.db.bulk import insert_new
from tagmill.db.connection import reading
from tagmill.db.schema import image_content, image_failure, repeated_entry, repeated_image
from tagmill.outcomes import ErrorCode
from tagmill.records import Outcome

# Built once: batches run these statements. Each is a lookup by one key, see `tagmill.ledger.known_results`.
_OF_RUN = bindparam("run", type_=Integer())
_FIRSTS = select(repeated_entry.c.position, repeated_entry.c.first_position).where(
    repeated_entry.c.run_id == _OF_RUN, any_of(repeated_entry.c.position, "positions")
)
_REPEATED = (
    select(repeated_entry.c.first_position)
    .where(repeated_entry.c.run_id == _OF_RUN, any_of(repeated_entry.c.first_position, "positions"))
    .distinct()
)
_TAGGED = select(repeated_image.c.first_position, repeated_image.c.image_id).where(
    repeated_image.c.run_id == _OF_RUN, any_of(repeated_image.c.first_position, "positions")
)
_SHAS = select(image_content.c.id, image_content.c.sha256).where(any_of(image_content.c.id, "images"))
_FAILED = select(image_failure.c.position, image_failure.c.error_code, image_failure.c.error_detail).where(
    image_failure.c.run_id == _OF_RUN, any_of(image_failure.c.position, "positions")
)


def first_positions(connection: Connection, run_id: int, positions: Iterable[int]) -> dict[int, int]:
    """Return position -> position of the first entry with its uri, for those that repeat an earlier entry."""
    found = connection.execute(_FIRSTS, {"run": run_id, "positions": list(positions)})
    return {row.position: row.first_position for row in found}


def first_outcomes(engine: Engine, run_id: int, firsts: Collection[int]) -> dict[int, Outcome]:
    """Return position -> outcome of those first entries that have one."""
    with reading(engine, snapshot=False) as connection:
        tagged = connection.execute(_TAGGED, {"run": run_id, "positions": list(firsts)})
        images = {row.first_position: row.image_id for row in tagged}
        shas = {row.id: row.sha256 for row in connection.execute(_SHAS, {"images": list(images.values())})}
        outcomes = {at: Outcome(at, shas[image]) for at, image in images.items()}
        if others := [at for at in firsts if at not in outcomes]:
            failed = connection.execute(_FAILED, {"run": run_id, "positions": others})
            outcomes |= {at: Outcome(at, None, ErrorCode(code), detail) for at, code, detail in failed}
    return outcomes


def store_images(connection: Connection, run_id: int, images: Mapping[int, int]) -> None:
    """Store the images, position -> image id, of those entries that others repeat."""
    found = connection.execute(_REPEATED, {"run": run_id, "positions": list(images)}).scalars()
    rows = [(at, images[at]) for at in sorted(found)]
    insert_new(connection, repeated_image, ("first_position", "image_id"), rows, {"run_id": run_id})
