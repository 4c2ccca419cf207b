"""Look up images that were inferred before and files that were hashed before."""

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import Engine, select

from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.db.schema import file_seen, inference

# Built once: building a statement takes as long as running it.
_INFERENCES = select(inference.c.image_sha256, inference.c.model_sha256).where(
    any_of(inference.c.image_sha256, "shas"), any_of(inference.c.model_sha256, "models")
)
_FILES = select(file_seen.c.identity, file_seen.c.sha256).where(any_of(file_seen.c.identity, "identities"))


def known_inferences(engine: Engine, shas: Iterable[str], models: Sequence[str]) -> set[tuple[str, str]]:
    """Return the (image sha256, model sha256) pairs that have a result."""
    with reading(engine) as connection:
        found = connection.execute(_INFERENCES, {"shas": shas, "models": models})
        return {(row.image_sha256, row.model_sha256) for row in found}


def unchanged_files(engine: Engine, identities: Iterable[str], models: Sequence[str]) -> dict[str, str]:
    """Return identity -> sha256 of the files that were hashed before and have a result of each of `models`."""
    with reading(engine) as connection:
        # Two lookups by key: a join of new, growing tables took PostgreSQL ten times as long (4 ms per batch).
        hashed = {row.identity: row.sha256 for row in connection.execute(_FILES, {"identities": identities})}
        if not hashed:
            return {}
        found = connection.execute(_INFERENCES, {"shas": set(hashed.values()), "models": models})
        results = Counter(row.image_sha256 for row in found)
    return {identity: sha256 for identity, sha256 in hashed.items() if results[sha256] == len(models)}
