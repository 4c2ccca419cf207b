"""How sources are read: everything that the options of `tagmill submit` and `tagmill tag` say about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tagmill.where import Where

#: names of the formats of manifests, as `--format` takes them
FORMATS = ("csv", "tsv", "jsonl", "parquet")


def _ignore(note: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class ReadOptions:
    """How sources are read. The defaults read each source by its name and its header."""

    #: one of `FORMATS`, instead of the one that a manifest's name says; of standard input, csv is the default
    format: str | None = None
    #: Python's name of the encoding of text; without it UTF-8, or UTF-16 by its byte order mark
    encoding: str | None = None
    #: one character, instead of the delimiter that the header shows
    delimiter: str | None = None
    #: column of the keys, instead of the default names
    key_column: str | None = None
    #: columns of the locations, instead of the default names; each may hold an image of the row
    uri_columns: tuple[str, ...] = ()
    #: separates several locations in one cell
    split: str | None = None
    #: whether further columns are kept
    keep_extra: bool = True
    #: entries that do not meet it are left out
    where: Where = field(default_factory=Where)
    #: of the database that `sql:` sources query; it may hold a password
    source_url: str = field(default="", repr=False)
    #: only so many entries are read, the first ones
    limit: int | None = None
    #: only so many entries are chosen of those read, at random by `seed`
    sample: int | None = None
    seed: int = 0
    #: folder that images inside a Parquet file are written to
    extract: Path | None = None
    #: whether they are: a dry run leaves it
    writes: bool = True
    #: is told in one line what a reader decided for the user
    tell: Callable[[str], None] = _ignore


#: each source is read by its name and its header
READ_ALL = ReadOptions()
