"""Read a Parquet manifest in batches of bounded size."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from producer.sources.base import Problem, Row
from producer.sources.manifests.columns import Columns, choose_columns
from producer.sources.manifests.manifest import Manifest, ManifestError
from producer.sources.manifests.parquet_file.arrow_json import is_embedded, is_kept, make_objects, texts_of
from producer.sources.manifests.parquet_file.embedded import Extractor, path_of
from producer.sources.manifests.rows import RowMaker
from producer.sources.manifests.standard_input import open_manifest
from tagmill.errors import first_line
from tagmill.text import normalize

#: rows and bytes of a batch; one row has more if its images are in it
_BATCH_ROWS, _BATCH_BYTES = 4096, 8 * 2**20
#: row groups whose sizes are looked at
_GROUPS = 100
#: bytes that are read at once of each column
_BUFFER_BYTES = 256 * 2**10


def read(manifest: Manifest) -> Iterator[Row | Problem]:
    """Yield the rows of a Parquet file in order. Their numbers, from 1, are what problems name."""
    with open_manifest(manifest.location) as source:
        try:
            # With a buffer, pages are read as they are needed, not whole row groups.
            with pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
                yield from _read_file(file, manifest)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise ManifestError(f"is no Parquet file, or damaged: {first_line(error)}") from error


def _read_file(file: Any, manifest: Manifest) -> Iterator[Row | Problem]:
    schema = file.schema_arrow
    names = [normalize(name) for name in schema.names]
    if len(set(schema.names)) < len(names):
        raise ManifestError("has several columns of one name")
    embedded = frozenset(at for at, kind in enumerate(schema.types) if is_embedded(kind))
    columns = choose_columns(names, manifest, embedded)
    reader = _BatchReader(columns, schema, manifest)
    wanted = [schema.names[at] for at in reader.positions]
    number = 1
    for batch in file.iter_batches(_batch_rows(file.metadata), columns=wanted, use_threads=False):
        yield from reader.read(batch, number)
        number += batch.num_rows


def _batch_rows(metadata: Any) -> int:
    """Return how many rows are read at once: few if those of a row group are large."""
    # The sizes of single columns are not looked at: pyarrow ends the process if these are damaged.
    groups = [metadata.row_group(at) for at in range(min(metadata.num_row_groups, _GROUPS))]
    largest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1, largest))))


class _BatchReader:
    """Makes rows of Arrow batches, column by column where that is possible."""

    def __init__(self, columns: Columns, schema: Any, manifest: Manifest) -> None:
        self._columns = columns
        self._manifest = manifest
        self._maker = RowMaker(manifest)
        self._extra = [(at, name) for at, name in columns.extra if is_kept(schema.types[at])]
        chosen = {columns.key, *columns.uris, *(at for at, _ in self._extra)} - {None}
        #: positions of the columns that are read
        self.positions: list[int] = sorted(at for at in chosen if at is not None)
        kinds = [schema.types[at] for at in columns.uris]
        for at, kind in zip(columns.uris, kinds, strict=True):
            if not (_is_text(kind) or _is_list(kind) or is_embedded(kind)):
                raise ManifestError(f"its column {schema.names[at]!r} holds {kind}, not locations")
        self._simple = columns.key is not None and len(kinds) == 1 and _is_text(kinds[0])
        self._extractor = Extractor(manifest) if any(map(is_embedded, kinds)) else None

    def read(self, batch: Any, number: int) -> Iterator[Row | Problem]:
        """Yield the rows of a batch whose first row has this number."""
        if batch.num_columns != len(self.positions):
            raise ManifestError("is damaged: its columns have other names than its schema says")
        # Columns are read in the order of the file.
        column = dict(zip(self.positions, batch.columns, strict=True))
        key = self._columns.key
        keys = [None] * batch.num_rows if key is None else self._keys(column[key])
        extras = make_objects([(name, column[at]) for at, name in self._extra], batch.num_rows)
        cells = [_cells(column[at]) for at in self._columns.uris]
        if self._simple:
            yield from self._read_simple(keys, cells[0], extras, number)
            return
        for at, (image_key, extra, *uris) in enumerate(zip(keys, extras, *cells, strict=True)):
            yield from self._read_row(number + at, image_key, uris, extra)

    def _read_simple(
        self, keys: Sequence[Any], uris: Sequence[Any], extras: Sequence[str | None], number: int
    ) -> Iterator[Row | Problem]:
        make = self._maker.make
        for at, (image_key, uri, extra) in enumerate(zip(keys, uris, extras, strict=True), number):
            if uri is not None and not self._maker.is_single(uri):
                yield from self._maker.make_all(at, image_key or "", [uri], extra)
            elif item := make(at, image_key or "", uri or "", extra):
                yield item

    def _read_row(
        self, number: int, image_key: str | None, cells: list[Any], extra: str | None
    ) -> Iterator[Row | Problem]:
        if self._extractor is None:
            key = image_key if self._columns.key is None else image_key or ""
            yield from self._maker.make_all(number, key, cells, extra)
            return
        if self._columns.key is None:
            stem = PurePath(self._manifest.label).stem
            image_key = next((path for cell in cells if (path := path_of(cell))), f"{stem}/{number}")
        located = [self._extractor.locate(cell, image_key or "", at) for at, cell in enumerate(cells)]
        contents = dict(located)
        for item in self._maker.make_all(number, image_key or "", [uri for uri, _ in located], extra):
            # Only images that are taken are written.
            if isinstance(item, Row) and (content := contents.get(item.uri)):
                self._extractor.write(item.uri, content)
            yield item

    def _keys(self, values: Any) -> list[Any]:
        kind = values.type
        if types.is_dictionary(kind):
            values, kind = values.dictionary_decode(), kind.value_type
        if types.is_floating(kind):  # whole numbers with nulls, as pandas writes them
            values = values.cast(pa.int64())
        elif not (_is_text(kind) or types.is_integer(kind) or (types.is_decimal(kind) and kind.scale == 0)):
            raise ManifestError(f"its column of keys holds {kind}, not text or whole numbers")
        return texts_of(values.cast(pa.string()), "surrogateescape")


def _cells(values: Any) -> list[Any]:
    if _is_text(values.type):
        return texts_of(values.cast(pa.string()), "surrogateescape")
    cells: list[Any] = values.to_pylist()
    return cells


def _is_text(kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and _is_text(kind.value_type))
