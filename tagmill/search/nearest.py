"""The images whose embeddings are nearest to a vector by cosine, in the way that the database allows.

PostgreSQL with pgvector orders by `<=>`: with the index of `tagmill.search.hnsw` approximately, else exactly. SQLite
calls sqlite-vec's function on each embedding. Otherwise embeddings are read in chunks and compared with NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from tagmill.db.vectors.read import read_vectors
from tagmill.db.vectors.vector_code import pack_floats
from tagmill.search.sqlite_vec import load_sqlite_vec
from tagmill.search.storage import Storage, abilities_of

#: candidates that a scan of the index keeps, at least; more find more of the true neighbors, and take longer
LEAST_CANDIDATES = 120
#: the most that pgvector allows
MOST_CANDIDATES = 1000
#: embeddings that are compared at a time in Python: 64 MB of 256 numbers each
CHUNK = 65_536

#: (image id, cosine similarity)
Neighbor = tuple[int, float]

# As SET LOCAL, in one round trip.
_SCAN = text("SELECT set_config('hnsw.ef_search', :candidates, true)")
_SCAN_ON = text(f"{_SCAN.text}, set_config('hnsw.iterative_scan', 'strict_order', true)")
_SHOWN_IDS = text("SELECT DISTINCT image_id FROM catalog_entry ORDER BY image_id")
#: In this form, PostgreSQL tests it row by row, as they come from the index, and never joins the tables instead.
_SHOWN_BY_ROW = "(SELECT true FROM catalog_entry WHERE catalog_entry.image_id = embedding.image_id LIMIT 1)"
_SHOWN = "EXISTS (SELECT 1 FROM catalog_entry WHERE catalog_entry.image_id = embedding.image_id)"


@dataclass(frozen=True)
class Query:
    """What is looked for among the embeddings of one model."""

    model_id: int
    #: float32 [D]; its length does not matter
    vector: NDArray[np.float32]
    k: int
    #: only images that the catalog shows now
    shown: bool = True
    #: whether the index of PostgreSQL, which may miss some, is not used
    exact: bool = False


def nearest(connection: Connection, query: Query) -> list[Neighbor]:
    """Return up to `k` images, the most similar first."""
    storage = abilities_of(connection).storage
    if storage is Storage.HALFVEC:
        return _in_postgresql(connection, query)
    if storage is Storage.SQLITE and load_sqlite_vec(connection):
        return in_sqlite(connection, query)
    return _in_python(connection, query)


def halfvec_text(vector: NDArray[np.float32]) -> str:
    """Return a vector as pgvector reads it."""
    return f"[{','.join(f'{value:.6g}' for value in vector.tolist())}]"


def distance(width: int, exact: bool, other: str = ":vector") -> str:
    """Return the cosine distance of an embedding to another, as the expression of the index unless it is `exact`."""
    column = "embedding.vector" if exact else f"embedding.vector::halfvec({width:d})"
    return f"{column} <=> CAST({other} AS halfvec({width:d}))"


def prepare_scan(connection: Connection, k: int) -> None:
    """Have the index scans of this transaction find `k` neighbors reliably."""
    candidates = min(MOST_CANDIDATES, max(LEAST_CANDIDATES, 3 * k))
    iterative = abilities_of(connection).iterative
    connection.execute(_SCAN_ON if iterative else _SCAN, {"candidates": str(candidates)})


def postgresql_statement(query: Query) -> str:
    """Return the statement that pgvector answers, with the parameters `vector` and `k`."""
    away = distance(len(query.vector), query.exact)
    shown = f"AND {_SHOWN if query.exact else _SHOWN_BY_ROW}" if query.shown else ""
    # The id of the model is part of the text: the index of a model is partial.
    return f"""
        SELECT embedding.image_id, {away} AS distance FROM embedding
        WHERE embedding.model_id = {query.model_id:d} {shown} ORDER BY {away} LIMIT :k
    """


def _in_postgresql(connection: Connection, query: Query) -> list[Neighbor]:
    if not query.exact:
        prepare_scan(connection, query.k)
    statement = postgresql_statement(query)
    rows = connection.execute(text(statement), {"vector": halfvec_text(query.vector), "k": query.k})
    return [(row.image_id, 1.0 - row.distance) for row in rows]


def in_sqlite(connection: Connection, query: Query) -> list[Neighbor]:
    """Return the neighbors by the function `vec_distance_cosine`, which the connection must have."""
    statement = f"""
        SELECT image_id, vec_distance_cosine(vector, :vector) AS distance FROM embedding
        WHERE model_id = :model {f"AND {_SHOWN}" if query.shown else ""} ORDER BY distance LIMIT :k
    """
    values = {"vector": pack_floats(query.vector), "model": query.model_id, "k": query.k}
    return [(row.image_id, 1.0 - row.distance) for row in connection.execute(text(statement), values)]


def _in_python(connection: Connection, query: Query) -> list[Neighbor]:
    shown = np.array(connection.execute(_SHOWN_IDS).scalars().all(), np.int64) if query.shown else None
    direction = query.vector / max(float(np.linalg.norm(query.vector)), 1e-12)
    best: list[Neighbor] = []
    for ids, vectors in read_vectors(connection, query.model_id, CHUNK):
        if shown is not None:
            kept = np.isin(ids, shown, assume_unique=True)
            ids, vectors = ids[kept], vectors[kept]
        best = _merged(best, ids, vectors @ direction, query.k)
    return best


def _merged(best: Sequence[Neighbor], ids: NDArray[np.int64], near: NDArray[np.float32], k: int) -> list[Neighbor]:
    """Return the best `k` of those found so far and of a chunk."""
    if len(ids) > k:
        chosen = np.argpartition(-near, k - 1)[:k]
        ids, near = ids[chosen], near[chosen]
    found = [*best, *zip(ids.tolist(), near.tolist(), strict=True)]
    return sorted(found, key=lambda neighbor: (-neighbor[1], neighbor[0]))[:k]
