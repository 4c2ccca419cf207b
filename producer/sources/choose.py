"""Choose some of the entries that are read: the first ones, or a sample."""

import random
from collections.abc import Iterator

from producer.sources.base import Problem, Row, Skipped
from producer.sources.options import ReadOptions
from tagmill.records import Entry


def choose(items: Iterator[Entry | Problem], options: ReadOptions) -> Iterator[Entry | Problem]:
    """Yield the entries that `limit` and `sample` choose, in their order, and the problems of all that were read."""
    if options.limit is not None:
        items = first_entries(items, options.limit)
    if options.sample is not None:
        items = sample_entries(items, options.sample, options.seed)
    return items


def first_entries(items: Iterator[Entry | Problem], count: int) -> Iterator[Entry | Problem]:
    """Yield everything up to the entry of this number; what follows is not read."""
    for item in items:
        yield item
        if isinstance(item, Entry):
            count -= 1
            if not count:
                return


def sample_entries(items: Iterator[Entry | Problem], size: int, seed: int) -> Iterator[Entry | Problem]:
    """Yield a uniform sample of the entries, in their order; it is the same for the same entries and seed.

    Holds `size` entries (reservoir sampling, Vitter's algorithm R).
    """
    # random() is the same in every version of Python, randrange() is not.
    draw = random.Random(seed).random
    chosen: list[tuple[int, Entry]] = []
    number = 0
    for item in items:
        if isinstance(item, Problem):
            yield item
            continue
        if number < size:
            chosen.append((number, item))
        elif (place := int(draw() * (number + 1))) < size:
            chosen[place] = (number, item)
        number += 1
    for _, entry in sorted(chosen, key=lambda pair: pair[0]):
        yield entry


def meeting(items: Iterator[Row | Problem | Skipped], options: ReadOptions) -> Iterator[Row | Problem | Skipped]:
    """Yield the rows of images that meet `--where`, and everything else."""
    for item in items:
        if not isinstance(item, Row) or options.where.matches(item.image_key, item.uri, None):
            yield item
