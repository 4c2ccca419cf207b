"""Read embeddings, in the fastest way of each database.

PostgreSQL sends them by binary COPY: a `halfvec` comes as the bytes that it holds, without a type of the driver.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from tagmill.db.bulk import driver_cursor
from tagmill.db.vectors import vector_code

#: int64 [N], the ids of images, and float32 [N, D], their embeddings
Vectors = tuple[NDArray[np.int64], NDArray[np.float32]]

_NONE: Vectors = (np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


def read_vectors(connection: Connection, model_id: int, chunk: int) -> Iterator[Vectors]:
    """Yield all embeddings of a model, up to `chunk` at a time, in the order of their images."""
    after = -1
    while True:
        ids, vectors = _read(connection, model_id, f"image_id > {after:d}", f"ORDER BY image_id LIMIT {chunk:d}")
        if len(ids):
            yield ids, vectors
        if len(ids) < chunk:
            return
        after = int(ids[-1])


def vectors_of(connection: Connection, model_id: int, image_ids: Sequence[int]) -> Vectors:
    """Return the embeddings that some images have for a model, in the order of the images' ids."""
    if not image_ids:
        return _NONE
    listed = ", ".join(f"{number:d}" for number in image_ids)
    return _read(connection, model_id, f"image_id IN ({listed})", "ORDER BY image_id")


def sample_vectors(connection: Connection, model_id: int, most: int) -> NDArray[np.float32]:
    """Return up to `most` embeddings of a model, spread over all of them, float32 [N, D]."""
    count = connection.exec_driver_sql(f"SELECT count(*) FROM embedding WHERE model_id = {model_id:d}").scalar_one()
    step = -(-int(count) // most) or 1
    return _read(connection, model_id, f"image_id % {step:d} = 0", f"ORDER BY image_id LIMIT {most:d}")[1]


def _read(connection: Connection, model_id: int, which: str, order: str) -> Vectors:
    """Return what a condition holds for; it is made of numbers alone, because COPY takes no parameters."""
    statement = f"SELECT image_id, vector FROM embedding WHERE model_id = {model_id:d} AND {which} {order}"
    if connection.dialect.name != "postgresql":
        rows = connection.exec_driver_sql(statement).all()
        if not rows:
            return _NONE
        return np.array([row[0] for row in rows], np.int64), vector_code.unpack_floats([row[1] for row in rows])
    copied = f"COPY ({statement}) TO STDOUT (FORMAT BINARY)"
    with driver_cursor(connection, copied) as cursor, cursor.copy(copied) as copy:
        copy.set_types(["int8", "bytea"])
        rows = list(copy.rows())
    if not rows:
        return _NONE
    return np.array([row[0] for row in rows], np.int64), vector_code.unpack_halves([row[1] for row in rows])
