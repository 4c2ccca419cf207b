"""Tell images from other files by their names, and count the files that are skipped, with examples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from tagmill.images.image import SUFFIXES, UNREAD_SUFFIXES
from tagmill.text import is_utf8, legible

#: kinds of skipped files that are no suffixes
HIDDEN, NOT_UTF8, LINK, NO_SUFFIX, OTHER = "hidden", "not UTF-8", "link to a folder", "no suffix", "other"
#: folder that macOS adds to ZIP archives: it holds no images, but a file of metadata for each
ARCHIVE_METADATA = "__MACOSX"
#: names that are shown for each kind
EXAMPLES = 3
#: kinds that are counted separately; files of further kinds count as `OTHER`
_MAX_KINDS = 40
#: characters of a suffix with its dot; what is longer is no suffix
_MAX_SUFFIX = 10

#: how a line names one file, and several files, of these kinds
_WORDS: Mapping[str, tuple[str, str]] = {
    HIDDEN: ("hidden file", "hidden files"),
    NOT_UTF8: ("file with a name that is not UTF-8, rename it", "files with names that are not UTF-8, rename them"),
    LINK: ("link to a folder", "links to folders"),
    NO_SUFFIX: ("file without a suffix", "files without a suffix"),
    OTHER: ("other file", "other files"),
}


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden (also `._a.jpg`, metadata that macOS writes beside a.jpg)."""
    return name.startswith(".") or name == ARCHIVE_METADATA


def skipped_kind(name: str) -> str | None:
    """Return why a file of this name is skipped: its suffix, or one of the kinds above. None for an image."""
    if is_hidden(name):
        return HIDDEN
    if name.lower().endswith(SUFFIXES):
        return None if is_utf8(name) else NOT_UTF8
    suffix = PurePath(name).suffix.lower()
    return suffix if 1 < len(suffix) <= _MAX_SUFFIX and suffix.isprintable() else NO_SUFFIX


class SkippedFiles:
    """Files of folders that were skipped, counted by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Count a file of a kind that `skipped_kind` returns."""
        self._add(kind, 1, [legible(name)])

    def update(self, others: "SkippedFiles") -> None:
        """Count the files of others, too."""
        for kind, count in others._counts.items():
            self._add(kind, count, others._examples[kind])

    def _add(self, kind: str, count: int, names: Sequence[str]) -> None:
        if kind not in self._counts and len(self._counts) >= _MAX_KINDS:
            kind = OTHER
        self._counts[kind] += count
        examples = self._examples.setdefault(kind, [])
        examples += names[: EXAMPLES - len(examples)]

    @property
    def count(self) -> int:
        """The number of skipped files."""
        return self._counts.total()

    def __contains__(self, kind: str) -> bool:
        return kind in self._counts

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: the number of all, and number and examples of each kind."""
        kinds = [
            {"kind": kind, "count": self._counts[kind], "examples": self._examples[kind]} for kind in self._order()
        ]
        return {"skipped_count": self.count, "skipped": kinds}

    def lines(self) -> list[str]:
        """Return a line for each kind, such as `skipped 2 .jxl files, images that are not read: a.jxl, b.jxl`."""
        return [self._line(kind) for kind in self._order()]

    def _order(self) -> list[str]:
        """Return the kinds, images that are not read first, then the most frequent."""
        return sorted(self._counts, key=lambda kind: (not _is_image(kind), -self._counts[kind], kind))

    def _line(self, kind: str) -> str:
        count, names = self._counts[kind], self._examples[kind]
        one, several = _WORDS.get(kind, (f"{kind} file", f"{kind} files"))
        note = ", images that are not read" if kind in UNREAD_SUFFIXES else ""
        more = ", ..." if count > len(names) else ""
        return f"skipped {count} {one if count == 1 else several}{note}: {', '.join(names)}{more}"


def _is_image(kind: str) -> bool:
    return kind in UNREAD_SUFFIXES or kind == NOT_UTF8
