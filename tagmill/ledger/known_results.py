"""Look up what was inferred or hashed before."""

from collections.abc import Iterable

from sqlalchemy import (
    Engine,
    select,
)

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import (
    file_seen,
    inference,
)

_KNOWN_INFERENCES = select(inference.c.image_sha256, inference.c.model_sha256).where(
    any_of(inference.c.image_sha256, "shas"), any_of(inference.c.model_sha256, "models")
)


_KNOWN_FILES = select(file_seen.c.identity, file_seen.c.sha256).where(any_of(file_seen.c.identity, "identities"))


def known_inferences(engine: Engine, shas: Iterable[str], models: Iterable[str]) -> set[tuple[str, str]]:
    """Return the (image sha256, model sha256) pairs that have a result already."""
    with reading(engine) as connection:
        found = connection.execute(_KNOWN_INFERENCES, {"shas": shas, "models": models})
        return {(row.image_sha256, row.model_sha256) for row in found}


def known_files(engine: Engine, identities: Iterable[str]) -> dict[str, str]:
    """Return identity -> sha256 of the files that were hashed before."""
    with reading(engine) as connection:
        found = connection.execute(_KNOWN_FILES, {"identities": identities})
        return {row.identity: row.sha256 for row in found}
