"""The table of manifest formats, and which sources are manifests."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from producer.needs_pyarrow import needs_pyarrow
from producer.sources.base import Problem, Row, folder_of
from producer.sources.manifests.manifest import Manifest, ManifestReader
from producer.sources.manifests.sql_query import is_query, read_query
from producer.sources.manifests.standard_input import STANDARD_INPUT
from producer.sources.manifests.text.compression import without_suffix
from producer.sources.manifests.text.csv_manifest import read_csv, read_tsv
from producer.sources.manifests.text.jsonl import read_jsonl
from producer.sources.options import ReadOptions
from tagmill.images.image import SUFFIXES
from tagmill.locations.schemes import is_stored


def _read_parquet(manifest: Manifest) -> Iterator[Row | Problem]:
    with needs_pyarrow(f"{manifest.label}: Parquet"):
        from producer.sources.manifests.parquet_file.read import read
    yield from read(manifest)


#: characters of a query in problems
_LABEL = 60
#: The reader of a manifest, by the end of its file name before .gz and .zst. A new format is a module and a line here.
MANIFEST_READERS: Mapping[str, ManifestReader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".txt": read_csv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": _read_parquet,
}


def manifest_reader(source: str, options: ReadOptions) -> ManifestReader | None:
    """Return the reader of a manifest that is no folder; None if it is an image, or of no known kind."""
    if is_query(source):
        return read_query
    if source == STANDARD_INPUT:
        return MANIFEST_READERS[f".{options.format or 'csv'}"]
    name = Path(source).name.lower()
    if name.endswith(SUFFIXES):
        return None
    if options.format:
        return MANIFEST_READERS[f".{options.format}"]
    plain = without_suffix(name)
    return next((reader for suffix, reader in MANIFEST_READERS.items() if plain.endswith(suffix)), None)


def is_file(source: str) -> bool:
    """Return whether a source is in the file system: not standard input, a query, or in a store."""
    return source != STANDARD_INPUT and not is_query(source) and not is_stored(source)


def manifest_of(source: str, options: ReadOptions) -> Manifest:
    """Return a manifest as it is to be read. Raise OSError if its folder cannot be found."""
    base = folder_of(Path(source)) if is_file(source) else Path.cwd()
    return Manifest(source, label_of(source), str(base), options)


def label_of(source: str) -> str:
    """Return what problems call a source: a long query is cut off."""
    if not is_query(source):
        return source
    text = " ".join(source.split())
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
