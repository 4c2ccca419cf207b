"""Read the groups of duplicates that were found last."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Engine, text

from tagmill.db.connection import reading
from tagmill.locations.redact import shown_uri
from tagmill.search.duplicates.pairs import Kind

_COLUMNS = "group_id, image_key, uri, sha256, kind, distance, similarity, found_at"
_ORDER = "ORDER BY group_id, CASE kind WHEN 'first' THEN 0 WHEN 'bytes' THEN 1 ELSE 2 END, image_key"


@dataclass(frozen=True)
class DuplicateImage:
    """A key of a group, with what its image has in common with the first one."""

    key: str
    uri: str
    sha256: str
    kind: Kind
    #: bits by which the perceptual hashes differ, of 64; None if one has none
    distance: int | None
    #: cosine of the embeddings; None if one has none
    similarity: float | None


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that show the same, or that look alike: the first one, then the others."""

    id: int
    found_at: float
    images: tuple[DuplicateImage, ...]

    @property
    def looks_alike(self) -> bool:
        """Whether it is a group of look-alikes, and not of copies."""
        return any(image.kind is Kind.LOOK_ALIKE for image in self.images)


def read_duplicates(engine: Engine, run_id: int | None = None, full_urls: bool = False) -> Iterator[DuplicateGroup]:
    """Yield the groups that `tagmill duplicates` found last in the catalog, or in a run, in order.

    Keys that no longer show their image are left out, and groups of which fewer than two keys are left.
    """
    source = "catalog_duplicates" if run_id is None else "run_duplicates WHERE run_id = :run"
    statement = text(f"SELECT {_COLUMNS} FROM {source} {_ORDER}")
    with reading(engine) as connection:
        rows = connection.execution_options(yield_per=1000).execute(
            statement, {} if run_id is None else {"run": run_id}
        )
        for number, found in groupby(rows, key=lambda row: row.group_id):
            members = list(found)
            if len(members) > 1:
                images = tuple(
                    DuplicateImage(
                        row.image_key,
                        row.uri if full_urls else shown_uri(row.uri),
                        row.sha256,
                        Kind(row.kind),
                        row.distance,
                        row.similarity,
                    )
                    for row in members
                )
                yield DuplicateGroup(number, members[0].found_at, images)
