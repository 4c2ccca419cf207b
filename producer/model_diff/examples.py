"""Choose images that two models do not agree on: of each frequent disagreement those that A is most certain of."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from producer.model_diff.figures import Example
from tagmill.comparison.images import Given, SharedImage, answers
from tagmill.registry.models import Model
from tagmill.search.keys import ShownKey, add_former_keys, keys_of

#: disagreements that are shown, and images of each
MOST_PAIRS, OF_PAIR = 12, 6
#: disagreements whose images are remembered while the frequent ones are not known yet
_REMEMBERED = 2_000

_OF_PAIR = """
SELECT a.image_id FROM result AS a JOIN result AS b ON b.image_id = a.image_id AND b.model_id = :b
WHERE a.model_id = :a AND a.label_1 = :label_a AND b.label_1 = :label_b
ORDER BY a.score_1 DESC, a.image_id LIMIT :most
"""

#: the labels of A and of B
PairKey = tuple[frozenset[int], frozenset[int]]


@dataclass
class Disagreements:
    """The images that are met, the most certain ones of each pair of answers."""

    counts: Counter[PairKey] = field(default_factory=Counter)
    #: pair -> heap of certainty, number, image
    kept: dict[PairKey, list[tuple[float, int, SharedImage]]] = field(default_factory=dict)
    _number: int = 0

    def add(self, found: SharedImage) -> None:
        """Add an image that the models do not agree on."""
        key = (frozenset(found.a), frozenset(found.b))
        if key not in self.counts and len(self.counts) >= _REMEMBERED:
            return
        self.counts[key] += 1
        self._number += 1
        heap = self.kept.setdefault(key, [])
        heapq.heappush(heap, (max(found.a.values(), default=0.0), -self._number, found))
        if len(heap) > OF_PAIR:
            heapq.heappop(heap)

    def chosen(self) -> list[SharedImage]:
        """Return the images of the most frequent disagreements."""
        frequent = sorted(self.counts, key=lambda key: (-self.counts[key], sorted(key[0]), sorted(key[1])))
        return [found for key in frequent[:MOST_PAIRS] for _, _, found in sorted(self.kept[key], reverse=True)]


def examples_of(connection: Connection, a: Model, b: Model, pairs: Mapping[tuple[int, int], int]) -> list[SharedImage]:
    """Return images of the most frequent pairs of different labels, from all that both classifiers have a result of."""
    different = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: (-pairs[pair], pair))
    ids: list[int] = []
    for label_a, label_b in different[:MOST_PAIRS]:
        values = {"a": a.id, "b": b.id, "label_a": label_a, "label_b": label_b, "most": OF_PAIR}
        ids += connection.execute(text(_OF_PAIR), values).scalars()
    found = answers(connection, a, b, ids)
    return [SharedImage(image, *found[image]) for image in ids]


def to_examples(
    connection: Connection,
    model: Model,
    images: Iterable[SharedImage],
    words: Mapping[int, str],
    truth: Mapping[str, tuple[str, ...]],
) -> tuple[Example, ...]:
    """Return the images with their hashes and labels as text; those without an entry get one that shows or showed them.

    An image whose entries were all deleted is left out.
    """
    chosen = list(images)
    shown = keys_of(connection, [one.image_id for one in chosen], full_urls=True)
    add_former_keys(connection, model.id, shown, full_urls=True)
    examples = []
    for one in chosen:
        of_image = shown[one.image_id]
        places = of_image.keys if not one.uri else [ShownKey(one.image_key, one.uri)]
        if places:
            key, uri = places[0].key, places[0].uri
            given = (_in_words(one.a, words), _in_words(one.b, words))
            examples.append(Example(key, uri, of_image.sha256, *given, truth.get(key, ())))
    return tuple(examples)


def _in_words(given: Given, words: Mapping[int, str]) -> tuple[tuple[str, float], ...]:
    return tuple((words[label], score) for label, score in sorted(given.items(), key=lambda one: -one[1]))
