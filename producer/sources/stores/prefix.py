"""Read the images below a prefix, or those that match a pattern."""

from collections.abc import Iterator

from producer.sources.base import Problem, Row, Skipped
from producer.sources.stores.listing import list_below
from producer.sources.stores.pattern import Pattern
from tagmill.images.file_names import HIDDEN, is_hidden, skipped_kind
from tagmill.locations.schemes import parse_stored
from tagmill.text import normalize


def read_prefix(pattern: Pattern) -> Iterator[Row | Problem | Skipped]:
    """Yield the images that a pattern means, sorted by their keys relative to its prefix, and what is skipped."""
    hidden = ""
    for name in list_below(pattern.prefix):
        if not pattern.matches(name):
            continue
        if found := hidden_part(name):
            if found != hidden:  # a hidden folder counts once
                yield Skipped(HIDDEN, found)
            hidden = found
        elif kind := skipped_kind(name.rpartition("/")[2]):
            yield Skipped(kind, name)
        else:
            yield _row(f"{pattern.prefix}{name}", name)


def _row(uri: str, name: str) -> Row | Problem:
    # A store lists keys that it could give out. A percent sign or a backslash may still hide a part `..`.
    if "%" in name or "\\" in name:
        try:
            parse_stored(uri)
        except ValueError as error:
            return Problem(uri, str(error))
    return Row(0, normalize(name), uri)


def hidden_part(name: str) -> str:
    """Return a path up to its first hidden part, or an empty text."""
    if name[0] != "." and "/." not in name and "__" not in name:  # as most are
        return ""
    parts = name.split("/")
    first = next((number for number, part in enumerate(parts) if is_hidden(part)), None)
    return "" if first is None else "/".join(parts[: first + 1])
