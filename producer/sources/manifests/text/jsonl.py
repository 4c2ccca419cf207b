"""Read a JSON Lines manifest: one object a line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from producer.sources.base import Problem, Row
from producer.sources.manifests.columns import choose_columns
from producer.sources.manifests.manifest import Manifest, ManifestError
from producer.sources.manifests.rows import RowMaker
from producer.sources.manifests.text.lines import TextLines, open_lines
from tagmill.extra import make_extra
from tagmill.text import normalize
from tagmill.where import Where

_column = lru_cache(4096)(normalize)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def read_jsonl(manifest: Manifest) -> Iterator[Row | Problem]:
    """Yield the rows of a JSON Lines file in order. The names in its first object choose the columns."""
    with open_lines(manifest) as lines:
        reader: _ObjectReader | None = None
        for found in _read_objects(lines, manifest):
            if isinstance(found, Problem):
                yield found
                continue
            if reader is None:
                try:
                    reader = _ObjectReader(list(found), manifest)
                except ManifestError as error:
                    yield manifest.problem(lines.record, str(error))
                    return
            yield from reader.read(lines.record, found)


def _read_objects(lines: TextLines, manifest: Manifest) -> Iterator[dict[str, Any] | Problem]:
    """Yield the object of each line that is not blank; `lines.record` is its number."""
    for line in lines:
        message = lines.problem_since(lines.record)
        if message is None and not line.isspace():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                message = f"is not JSON: {error}"
            else:
                message = None if isinstance(found, dict) else "is not a JSON object"
        if message:
            yield manifest.problem(lines.record, message)
        elif not line.isspace():
            yield found
        lines.start_record()
    if message := lines.problem_since(lines.number + 1):
        yield manifest.problem(lines.record, message)


class _ObjectReader:
    """Makes rows of objects by the names of the first one."""

    def __init__(self, names: Sequence[str], manifest: Manifest) -> None:
        # Later objects may have further names: only keys and locations are chosen by the first one.
        first = replace(manifest, options=replace(manifest.options, where=Where()))
        columns = choose_columns([normalize(name) for name in names], first)
        self._manifest = manifest
        self._maker = RowMaker(manifest)
        self._key = None if columns.key is None else names[columns.key]
        self._uris = [names[at] for at in columns.uris]
        self._used = {self._key, *self._uris}

    def read(self, line: int, found: Mapping[str, Any]) -> Iterator[Row | Problem]:
        """Yield the rows of one object."""
        try:
            key = None if self._key is None else _as_text(found.get(self._key), "image_key")
            uris = [_as_locations(found.get(name)) for name in self._uris]
            extra = self._make_extra(found)
        except ManifestError as error:
            yield self._manifest.problem(line, str(error))
            return
        # Nearly all objects have one location, and a generator takes longer than making its row.
        if key is not None and len(uris) == 1 and isinstance(uris[0], str) and self._maker.is_single(uris[0]):
            if item := self._maker.make(line, key, uris[0], extra):
                yield item
            return
        yield from self._maker.make_all(line, key, uris, extra)

    def _make_extra(self, found: Mapping[str, Any]) -> str | None:
        options = self._manifest.options
        kept = {
            _column(name): value
            for name, value in found.items()
            if value is not None
            and name not in self._used
            and (options.keep_extra or _column(name) in options.where.columns)
        }
        if not kept:
            return None
        try:
            text = _encode(kept)
            text.encode()
        except (ValueError, RecursionError):  # NaN or a lone surrogate
            return make_extra(kept)
        return make_extra(kept) if "\\u0000" in text else text


def _as_text(value: Any, what: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ManifestError(f"{what} is neither text nor a whole number")


def _as_locations(value: Any) -> str | list[str] | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ManifestError("uri is neither text nor a list of texts")
