"""Make the rows of one record of a manifest: one for each of its images."""

import json
import re
from collections.abc import Iterator, Sequence

from producer.sources.base import Problem, Row
from producer.sources.manifest_row import check_manifest_row
from producer.sources.manifests.manifest import Manifest
from tagmill.extra import problem_with_extra
from tagmill.locations.disk_spelling import DiskSpelling
from tagmill.locations.schemes import url_scheme
from tagmill.text import normalize, trim

_SCHEME = "[A-Za-z][A-Za-z0-9+.-]*://"
#: what a record holds in a column of locations: text, or a list of them
Uri = str | Sequence[str | None] | None


class RowMaker:
    """Makes checked rows of the records of one manifest, and leaves out those that do not meet `--where`."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._where = manifest.options.where
        self._keeps = manifest.options.keep_extra
        self._split = manifest.options.split
        separator = re.escape(self._split or "")
        self._between_urls = re.compile(rf"{separator}(?=\s*(?:{_SCHEME}|{separator}|$))")
        self._spelling = DiskSpelling()

    def is_single(self, cell: str) -> bool:
        """Return whether a cell certainly holds one location: not a list, and nothing to split."""
        return not self._split and not cell.startswith("[")

    def make(self, line: int, image_key: str, uri: str, extra: str | None) -> Row | Problem | None:
        """Return the row of one image, why it cannot be used, or None if it does not meet `--where`."""
        row = Row(line, image_key, uri, extra)
        checked = check_manifest_row(row, self._manifest.label, self._manifest.base, self._spelling)
        if self._where:
            # What is left out may be wrong: rows without a location, for example.
            seen = (normalize(image_key), trim(uri)) if isinstance(checked, Problem) else checked[1:3]
            if not self._where.matches(*seen, extra):
                return None
        if isinstance(checked, Problem) or extra is None:
            return checked
        if not self._keeps:
            return checked._replace(extra=None)
        message = problem_with_extra(extra)
        return self._manifest.problem(line, message) if message else checked

    def make_all(
        self, line: int, image_key: str | None, uris: Sequence[Uri], extra: str | None
    ) -> Iterator[Row | Problem]:
        """Yield the rows of a record with several columns or cells of locations. Empty ones count as none.

        The first image has the key itself, the next ones KEY#2, KEY#3 and so on: a list that grows keeps its keys.
        Without a key, each file name is its own key, behind the prefix of the manifest.
        """
        found = [uri for cell in uris for uri in self._locations(cell)] or [""]
        for number, uri in enumerate(found, 1):
            if image_key is None:
                key = f"{self._manifest.key_prefix or ''}{uri}" if uri else ""
            else:
                key = image_key if number == 1 or not image_key else f"{normalize(image_key)}#{number}"
            if item := self.make(line, key, uri, extra):
                yield item

    def _locations(self, cell: Uri) -> list[str]:
        if cell is None:
            return []
        if not isinstance(cell, str):
            return [uri for uri in cell if uri and trim(uri)]
        listed = parse_list(cell)
        if listed is None:
            listed = self._split_cell(cell) if self._split else [cell]
        return [uri for uri in listed if trim(uri)]

    def _split_cell(self, cell: str) -> list[str]:
        """Split a cell. A URL may hold the separator: those after a URL are URLs, too."""
        return self._between_urls.split(cell) if url_scheme(cell.lstrip()) else cell.split(self._split)


def parse_list(cell: str) -> list[str] | None:
    """Return the texts of a cell that is a JSON list of texts, or None if it is none."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]") and '"' in text):
        return None
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return listed if listed and all(isinstance(item, str) for item in listed) else None
