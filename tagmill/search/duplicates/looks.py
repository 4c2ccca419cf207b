"""Images whose embeddings are near: by products of blocks of the matrix, or by the index of PostgreSQL."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from tagmill.registry.models import Model
from tagmill.search.models import width_of
from tagmill.search.nearest import distance, prepare_scan

#: rows and columns of a block: 128 MB
ROWS, COLUMNS = 2048, 16_384
#: partners of an image within a block, or from the index, that are kept
PARTNERS = 50
#: images that are looked up in one statement
LOOKUPS = 500

#: numbers or ids of two images, and the cosine of their embeddings
Near = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
#: called with how much of the work is done
Advance = Callable[[int], None]


def blocks_of(count: int) -> int:
    """Return how many blocks `by_blocks` compares."""
    return sum(-(-(count - start) // COLUMNS) for start in range(0, count, ROWS))


def by_blocks(vectors: NDArray[np.float32], least: float, advance: Advance) -> Iterator[Near]:
    """Yield the pairs i < j of float32 [N, D] whose cosine is at least `least`; of an image the 50 best in a block."""
    for start in range(0, len(vectors), ROWS):
        rows = vectors[start : start + ROWS]
        for begin in range(start, len(vectors), COLUMNS):
            near = rows @ vectors[begin : begin + COLUMNS].T
            first, second = np.nonzero(near >= least)
            kept = first + start < second + begin
            first, second = first[kept], second[kept]
            yield _best(first + start, second + begin, near[first, second])
            advance(1)


def _best(first: NDArray[np.int64], second: NDArray[np.int64], near: NDArray[np.float32]) -> Near:
    """Return the pairs with the best `PARTNERS` partners of each first image."""
    order = np.lexsort((-near, first))
    first, second, near = first[order], second[order], near[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first, "left")
    kept = rank < PARTNERS
    return first[kept], second[kept], near[kept]


def by_index(
    connection: Connection, model: Model, ids: NDArray[np.int64], least: float, advance: Advance
) -> Iterator[Near]:
    """Yield pairs of ids of images among the nearest neighbors of each in PostgreSQL's index.

    The cosine is at least `least`. The index may miss some.
    """
    prepare_scan(connection, PARTNERS)
    away = distance(width_of(model), False, "one.vector")
    statement = text(f"""
        SELECT one.image_id AS first, near.image_id AS second, 1 - near.distance AS similarity
        FROM embedding AS one CROSS JOIN LATERAL (
            SELECT embedding.image_id, {away} AS distance FROM embedding
            WHERE embedding.model_id = {model.id:d} ORDER BY {away} LIMIT {PARTNERS:d}
        ) AS near
        WHERE one.model_id = {model.id:d} AND one.image_id = ANY (CAST(:images AS bigint[]))
            AND near.image_id <> one.image_id AND near.distance <= :most
    """)
    for start in range(0, len(ids), LOOKUPS):
        chosen = ids[start : start + LOOKUPS].tolist()
        rows = connection.execute(statement, {"images": chosen, "most": 1 - least}).all()
        found = np.array([(row.first, row.second) for row in rows], np.int64).reshape(-1, 2)
        near = np.array([row.similarity for row in rows], np.float32)
        yield found.min(1, initial=2**62), found.max(1, initial=0), near
        advance(len(chosen))
