"""How an embedding is stored: float16 in PostgreSQL, float32 in SQLite, where sqlite-vec reads it in place.

PostgreSQL gets the bytes that pgvector's `halfvec` sends and receives, also where the column is a plain `bytea` because
the extension is missing: two bytes with the width, two that are 0, then each number in IEEE half precision, most
significant byte first (pgvector's src/halfvec.c). So there is one way to write and to read both.
"""

import struct
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # most commands need no NumPy
    import numpy as np
    from numpy.typing import NDArray

_HEADER = struct.Struct(">HH")

#: float32 [D] -> what SQLite stores of it: its 4 D bytes, in the order of the machine. It is called for each image, and
#: enters no module.
pack_floats: "Callable[[NDArray[np.float32]], bytes]" = methodcaller("tobytes")


def pack_halves(vector: "NDArray[np.float32]") -> bytes:
    """Return float32 [D] as PostgreSQL stores it: 4 + 2 D bytes."""
    return _HEADER.pack(len(vector), 0) + vector.astype(">f2").tobytes()


def unpack_halves(rows: Sequence[bytes]) -> "NDArray[np.float32]":
    """Return float32 [N, D] from N values of one width that PostgreSQL stores; there must be at least one."""
    import numpy as np

    joined = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    return np.ascontiguousarray(joined[:, _HEADER.size :]).view(">f2").astype(np.float32)


def unpack_floats(rows: Sequence[bytes]) -> "NDArray[np.float32]":
    """Return float32 [N, D] from N values of one width that SQLite stores; there must be at least one."""
    import numpy as np

    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1).astype(np.float32)
