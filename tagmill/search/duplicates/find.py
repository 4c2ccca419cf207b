"""Find groups of duplicates among the images of the catalog or of a run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine

from tagmill.db.connection import reading
from tagmill.errors import InputError
from tagmill.registry.models import Model
from tagmill.search.duplicates.groups import Group, Member, stars
from tagmill.search.duplicates.hashes import near_pairs
from tagmill.search.duplicates.images import Images, read_embeddings, read_images
from tagmill.search.duplicates.looks import blocks_of, by_blocks, by_index
from tagmill.search.duplicates.pairs import COPY_SCORE, Kind, Pairs
from tagmill.search.hnsw import has_index

#: images up to which every embedding is compared with every other; beyond, the index is asked if there is one
ALL_PAIRS = 200_000
#: pairs that are kept in memory: 20 bytes each, and their groups
MOST_PAIRS = 5_000_000

#: told what is done, how much of it, and of how much
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Search:
    """Which duplicates are looked for."""

    #: a run; None: what the catalog shows
    run_id: int | None = None
    #: whose embeddings are compared; None: no look-alikes, and hashes alone say what is the same picture
    model: Model | None = None
    #: least cosine of look-alikes; above 1: none are looked for
    look_alike: float = 0.95


@dataclass(frozen=True)
class Found:
    """What was found, by the ids of images."""

    #: images that were looked at, those of them with hashes, and with embeddings
    images: int
    hashed: int
    embedded: int
    #: with the ids of images in place of numbers
    groups: tuple[Group, ...]


def find_duplicates(engine: Engine, search: Search, report: Report) -> Found:
    """Return groups of images that show the same, and groups of look-alikes, which hold no copies.

    Raise InputError if there are too many pairs.
    """
    with reading(engine) as connection:
        images = read_images(connection, search.run_id)
        numbers, vectors = np.zeros(0, np.int32), np.zeros((0, 1), np.float32)
        if search.model is not None:
            numbers, vectors = read_embeddings(connection, images, search.model)
        looked_up = _pairs_by_looks(connection, search, images, numbers, vectors, report)
        pairs = _joined([*_pairs_by_hash(images, numbers, vectors, report), *looked_up], search)
    groups = tuple(_named(images, group) for group in _groups(images, pairs, search))
    return Found(len(images), int(images.hashed.sum()), len(numbers), groups)


def _groups(images: Images, pairs: Pairs, search: Search) -> Iterator[Group]:
    copies = pairs.are_copies()
    grouped = np.zeros(len(images), np.bool_)
    behind = np.zeros(len(images), np.bool_)  # those that are not the first one of their group
    for group in stars(pairs.at(copies), look_alikes=False):
        grouped[[member.image for member in group]] = True
        behind[[member.image for member in group[1:]]] = True
        yield group
    for image in np.nonzero(images.shared & ~grouped)[0].tolist():
        yield (Member(image, Kind.FIRST),)
    alike = ~copies & (pairs.similarity >= search.look_alike) & ~behind[pairs.first] & ~behind[pairs.second]
    yield from stars(pairs.at(alike), look_alikes=True)


def _named(images: Images, group: Group) -> Group:
    return tuple(
        Member(int(images.ids[member.image]), member.kind, member.similarity, member.distance) for member in group
    )


def _pairs_by_hash(
    images: Images, numbers: NDArray[np.int32], vectors: NDArray[np.float32], report: Report
) -> Iterator[Pairs]:
    """Yield the pairs whose hashes are near. Of images with the same hash, each is paired with the first."""
    hashed = np.nonzero(images.hashed)[0]
    if not len(hashed):
        return
    report("comparing hashes", 0, 1)
    hashes, first, same = np.unique(images.hashes[hashed], return_index=True, return_inverse=True)
    turned, turned_first = np.unique(images.mirrored[hashed], return_index=True)
    rows = np.full(len(images), -1, np.int32)
    rows[numbers] = np.arange(len(numbers), dtype=np.int32)
    yield _compared(images, rows, vectors, hashed[first[same]], hashed)
    for one, other, _ in near_pairs(hashes, hashes):
        yield _compared(images, rows, vectors, hashed[first[one]], hashed[first[other]])
    for one, other, _ in near_pairs(hashes, turned):
        yield _compared(images, rows, vectors, hashed[first[one]], hashed[turned_first[other]])
    report("comparing hashes", 1, 1)


def _compared(
    images: Images,
    rows: NDArray[np.int32],
    vectors: NDArray[np.float32],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
) -> Pairs:
    """Return the pairs of different images that are copies, with the cosine of their embeddings."""
    first, second = np.minimum(one, other), np.maximum(one, other)
    chosen = first < second
    first, second = first[chosen], second[chosen]
    similarity = np.full(len(first), np.nan, np.float32)
    known = (rows[first] >= 0) & (rows[second] >= 0)
    if known.any():
        similarity[known] = np.einsum("ij,ij->i", vectors[rows[first[known]]], vectors[rows[second[known]]])
    return _only_copies(_pairs(images, first, second, similarity), 2.0)


def _pairs_by_looks(
    connection: Connection,
    search: Search,
    images: Images,
    numbers: NDArray[np.int32],
    vectors: NDArray[np.float32],
    report: Report,
) -> list[Pairs]:
    """Return the pairs whose embeddings are near enough for copies or look-alikes."""
    if search.model is None or len(numbers) < 2:
        return []
    found: list[Pairs] = []
    least = min(COPY_SCORE, search.look_alike)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report("comparing embeddings", done, total)

    if len(numbers) > ALL_PAIRS and has_index(connection, search.model):
        total = len(numbers)
        for one, other, near in by_index(connection, search.model, images.ids[numbers], least, advance):
            (first, known), (second, also) = images.places_of(one), images.places_of(other)
            chosen = known & also
            pairs = _pairs(images, first[chosen], second[chosen], near[chosen])
            found.append(_only_copies(pairs, search.look_alike))
        return found
    total = blocks_of(len(numbers))
    for one, other, near in by_blocks(vectors, least, advance):
        pairs = _pairs(images, numbers[one], numbers[other], near)
        found.append(_only_copies(pairs, search.look_alike))
        if sum(map(len, found)) > MOST_PAIRS:
            raise _too_many(search)
    return found


def _pairs(images: Images, first: NDArray[np.integer], second: NDArray[np.integer], near: NDArray[np.float32]) -> Pairs:
    away, mirrored = images.compared(first, second)
    return Pairs(first.astype(np.int32), second.astype(np.int32), near.astype(np.float32), away, mirrored)


def _only_copies(pairs: Pairs, look_alike: float) -> Pairs:
    """Return the pairs that are copies, or as similar as look-alikes."""
    return pairs.at(pairs.are_copies() | (pairs.similarity >= look_alike))


def _joined(parts: Sequence[Pairs], search: Search) -> Pairs:
    if sum(map(len, parts)) > MOST_PAIRS:
        raise _too_many(search)
    return Pairs.join(parts)


def _too_many(search: Search) -> InputError:
    return InputError(
        f"more than {MOST_PAIRS:,} pairs of images look alike; raise --look-alike above {search.look_alike:g}"
    )
