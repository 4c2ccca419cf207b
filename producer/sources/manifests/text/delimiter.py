"""Tell the delimiter of a CSV manifest by its header."""

import csv
from dataclasses import replace

from producer.sources.manifests.columns import choose_columns
from producer.sources.manifests.manifest import Manifest, ManifestError
from tagmill.text import normalize

#: what spreadsheets separate cells with, and what messages call it; the comma is taken if nothing tells
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


def split_header(header: str, delimiter: str) -> list[str]:
    """Return the normalized column names of a header line. Raise csv.Error if a quote in it is wrong."""
    return [normalize(name) for name in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])]


def find_delimiter(header: str, manifest: Manifest) -> str:
    """Return the delimiter by which the header has the columns of keys and locations.

    If that is none or several of them, return the only one that the header holds, else a comma: the columns that an
    error lists are then those that the user sees.
    """
    quiet = replace(manifest, options=replace(manifest.options, tell=lambda note: None))
    fitting = [delimiter for delimiter in DELIMITERS if _fits(header, delimiter, quiet)]
    held = fitting if len(fitting) == 1 else [delimiter for delimiter in DELIMITERS if delimiter in header]
    return held[0] if len(held) == 1 else ","


def _fits(header: str, delimiter: str, manifest: Manifest) -> bool:
    try:
        names = split_header(header, delimiter)
        # Two columns at least: one column alone would fit with every delimiter.
        return len(names) > 1 and bool(choose_columns(names, manifest))
    except (csv.Error, ManifestError):
        return False
