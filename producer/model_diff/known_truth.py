"""Compare the answers of two models with what is true of some keys."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, Engine, String, column, select, table

from producer.model_diff.figures import Truth
from tagmill.comparison.images import Given, answers
from tagmill.comparison.paired import Paired, paired
from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.registry.models import Model

#: keys that are looked up at a time
PAGE = 2_000

_CATALOG = table("catalog_entry", column("image_key", String), column("image_id"))


class TruthTally:
    """Whether each model is right, for the images whose truth is known."""

    def __init__(self, truth: Mapping[str, tuple[str, ...]], *, one_label: bool) -> None:
        self.truth = truth
        self._one_label = one_label
        self._right: list[tuple[bool, bool]] = []
        self._keys: set[str] = set()

    def add(self, image_key: str, a: Given, b: Given, words: Mapping[int, str]) -> None:
        """Add an image, if its truth is known. `words` are the labels by their ids."""
        if true := self.truth.get(image_key):
            self._keys.add(image_key)
            self._right.append((self._is_right(a, true, words), self._is_right(b, true, words)))

    def figures(self) -> Truth | None:
        """Return the figures; None if the truth of no image is known."""
        if not self.truth:
            return None
        found: Paired = paired(self._right)
        return Truth(found, len(self.truth) - len(self._keys))

    def _is_right(self, given: Given, true: Sequence[str], words: Mapping[int, str]) -> bool:
        labels = {words[label] for label in given}
        return bool(labels & set(true)) if self._one_label else labels == set(true)


def answers_of_keys(
    engine: Engine, a: Model, b: Model, keys: Sequence[str]
) -> Iterator[list[tuple[str, Given, Given]]]:
    """Yield pages of what both models gave to the images that the catalog shows for some keys, one image a key."""
    ordered = sorted(keys)
    for at in range(0, len(ordered), PAGE):
        some = ordered[at : at + PAGE]
        with reading(engine) as connection:
            shown = _shown(connection, some)
            found = answers(connection, a, b, [image for _, image in shown])
        of_page = {key: found[image] for key, image in reversed(shown) if image in found}
        yield [(key, *given) for key, given in of_page.items()]


def _shown(connection: Connection, keys: Sequence[str]) -> list[tuple[str, int]]:
    chosen = select(_CATALOG.c.image_key, _CATALOG.c.image_id).distinct()
    rows = connection.execute(chosen.where(any_of(_CATALOG.c.image_key, "keys")), {"keys": list(keys)})
    return sorted((row.image_key, row.image_id) for row in rows)
