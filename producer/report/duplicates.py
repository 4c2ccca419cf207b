"""What the page says of copies and look-alikes in a run: the groups that `tagmill duplicates RUN` found."""

from collections import Counter
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Engine

from producer.output.read.found import duplicate_members
from producer.report.rows import shown_key

#: groups on the page, the largest ones, and images of each
MOST_GROUPS, MOST_IMAGES = 50, 24

#: what an image has in common with the first one of its group, the surest first
_SAID = {
    "first": "first",
    "bytes": "same bytes",
    "picture": "same picture",
    "mirrored": "mirrored",
    "look_alike": "looks alike",
}


class Member(NamedTuple):
    """One image of a group."""

    #: as it is in the row of the image
    key: str
    said: str
    #: its distance and similarity from the first image, in words; "" of the first one
    evidence: str


class Group(NamedTuple):
    """Images that are copies of each other or look alike."""

    images: int
    members: tuple[Member, ...]


def duplicate_values(engine: Engine, run_id: int) -> dict[str, Any]:
    """Return the values of the section's template; without groups there is no section."""
    rows = duplicate_members(engine, run_id)
    groups = [_group(list(members)) for _, members in groupby(rows, key=lambda row: row.group_id)]
    kinds = Counter(row.kind for row in rows if row.kind != "first")
    return {
        "duplicates": sorted(groups, key=lambda group: -group.images)[:MOST_GROUPS],
        "duplicate_groups": len(groups),
        "duplicate_kinds": [(said, kinds[kind]) for kind, said in _SAID.items() if kinds[kind]],
    }


def _group(rows: list[Any]) -> Group:
    order = list(_SAID)
    shown = sorted(rows, key=lambda row: (order.index(row.kind), row.image_key))[:MOST_IMAGES]
    return Group(len(rows), tuple(Member(shown_key(row.image_key), _SAID[row.kind], _evidence(row)) for row in shown))


def _evidence(row: Any) -> str:
    """Return how far an image is from the first one of its group."""
    if row.kind in {"first", "bytes"}:
        return ""
    bits = None if row.distance is None else f"{row.distance} of 64 bits differ"
    cosine = None if row.similarity is None else f"similarity {row.similarity:.3f}"
    return ", ".join(filter(None, (bits, cosine)))
