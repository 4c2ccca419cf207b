"""A source with wildcards, such as `s3://bucket/**/*.jpg`: which keys it means."""

import re
from dataclasses import dataclass

from tagmill.locations.schemes import StoredLocation

_WILD = re.compile(r"[*?\[]")
#: a set of characters; a `]` right after the bracket is one of them
_SET = re.compile(r"\[(!?)(\]?[^\]/]*)\]")


@dataclass(frozen=True)
class Pattern:
    """What a source names: everything below a prefix, or what matches its wildcards there."""

    #: the folder before the first wildcard; ends in a slash, or is empty
    prefix: StoredLocation
    #: of keys relative to the prefix; None if there are no wildcards
    wildcards: re.Pattern[str] | None = None

    def matches(self, relative: str) -> bool:
        """Return whether a key, relative to the prefix, is meant."""
        return self.wildcards is None or self.wildcards.fullmatch(relative) is not None


def is_pattern(location: StoredLocation) -> bool:
    """Return whether a source has wildcards."""
    return _WILD.search(location.key) is not None


def pattern_of(location: StoredLocation) -> Pattern:
    """Return what a source that is no single file means.

    `*` and `?` match within a part of the path, `**` any number of parts, `[ab]` one of the characters. `[*]` is an
    asterisk.
    """
    first = _WILD.search(location.key)
    if first is None:
        key = location.key.rstrip("/")
        return Pattern(location._replace(key=f"{key}/" if key else ""))
    folder = location.key[: location.key.rfind("/", 0, first.start()) + 1]
    return Pattern(location._replace(key=folder), re.compile(_regex(location.key[len(folder) :]), re.DOTALL))


def _regex(pattern: str) -> str:
    *folders, last = pattern.split("/")
    found = "".join(r"(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in folders)
    return found + (".+" if last == "**" else _part(last))


def _part(part: str) -> str:
    found, at = "", 0
    while at < len(part):
        if part[at] == "[" and (chosen := _SET.match(part, at)):
            characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", chosen[2])
            found += f"[{'^/' if chosen[1] else ''}{characters}]"
            at = chosen.end()
            continue
        found += {"*": "[^/]*", "?": "[^/]"}.get(part[at], re.escape(part[at]))
        at += 1
    return found
