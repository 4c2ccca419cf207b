"""Which locations of object stores and file systems may be read: those below the allowed prefixes."""

from collections.abc import Iterable

from tagmill.locations.schemes import STORED, StoredLocation, is_stored, parse_stored


class AllowedLocations:
    """Prefixes such as `s3://shop-images/` or `gs://other/2026/`. They match whole parts of a path."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        """Raise ValueError for a prefix that is none."""
        self._prefixes = tuple(_parse_prefix(prefix) for prefix in prefixes)

    def allows(self, location: StoredLocation) -> bool:
        """Return whether a location is one of the prefixes or below one."""
        return any(_is_below(location, prefix) for prefix in self._prefixes)


def parse_prefixes(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of prefixes. Raise ValueError for one that is none."""
    prefixes = tuple(part.strip() for part in text.split(",") if part.strip())
    AllowedLocations(prefixes)
    return prefixes


def _parse_prefix(prefix: str) -> StoredLocation:
    if not is_stored(prefix):
        schemes = ", ".join(f"{scheme}://" for scheme in sorted(STORED))
        raise ValueError(f"holds a prefix that begins with none of {schemes}")
    try:
        return parse_stored(prefix)
    except ValueError as error:  # without the prefix, which may hold a login
        raise ValueError(f"holds a {prefix.partition('://')[0].lower()}:// prefix that {error}") from None


def _is_below(location: StoredLocation, prefix: StoredLocation) -> bool:
    if (location.scheme, location.root) != (prefix.scheme, prefix.root):
        return False
    return location.segments[: len(prefix.segments)] == prefix.segments
