"""From pairs to groups: each member of a group is a pair with its first image.

Pairs alone make chains: A is near B, B near C, and C has nothing of A. So a set of connected images is cut into stars:
the image with the most partners is the first one of a group, its partners are the members, and the rest goes on.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tagmill.search.duplicates.pairs import Kind, Pairs


@dataclass(frozen=True)
class Member:
    """An image of a group, with what it has in common with the first one."""

    #: its number
    image: int
    kind: Kind
    similarity: float | None = None
    distance: int | None = None


#: the first image, then the others
Group = tuple[Member, ...]


def stars(pairs: Pairs, look_alikes: bool) -> Iterator[Group]:
    """Yield groups in which every member is a pair with the first image; no image is in two."""
    partners: dict[int, dict[int, int]] = defaultdict(dict)
    for row, (one, other) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        partners[one][other] = partners[other][one] = row
    left = {image: len(found) for image, found in partners.items()}
    queue = [(-count, image) for image, count in left.items()]
    heapq.heapify(queue)
    while queue:
        count, image = heapq.heappop(queue)
        if image not in left:
            continue
        if -count != left[image]:  # some of its partners were taken since
            if left[image]:
                heapq.heappush(queue, (-left[image], image))
            continue
        members = sorted(other for other in partners[image] if other in left)
        yield (
            Member(image, Kind.FIRST),
            *(_member(pairs, partners[image][other], other, look_alikes) for other in members),
        )
        for taken in (image, *members):
            del left[taken]
        for taken in (image, *members):
            for other in partners[taken]:
                if other in left:
                    left[other] -= 1


def _member(pairs: Pairs, row: int, image: int, look_alike: bool) -> Member:
    similarity, distance = float(pairs.similarity[row]), int(pairs.distance[row])
    same = Kind.MIRRORED if pairs.mirrored[row] else Kind.PICTURE
    return Member(
        image,
        Kind.LOOK_ALIKE if look_alike else same,
        None if similarity != similarity else min(1.0, similarity),
        None if distance < 0 else distance,
    )
