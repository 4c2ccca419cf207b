"""Read what is true of images from a CSV file or JSON lines: a key and a label each."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tagmill.csv_cells import cell_reader, split_labels
from tagmill.errors import InputError
from tagmill.text import normalize

#: columns that may hold the key and the labels, the first one that a file has
KEYS = ("image_key", "key", "id")
LABELS = ("label", "labels", "category", "class")
_JSON_LINES = (".jsonl", ".ndjson", ".json")


def read_truth(path: Path) -> dict[str, tuple[str, ...]]:
    """Return image key -> its true labels. Several are separated by `|`, or are a list in JSON lines.

    An image without a label is left out. Raise InputError for a file that cannot be read, and for a key that has two
    different labels.
    """
    truth: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _json_rows(path, file) if path.suffix.lower() in _JSON_LINES else _csv_rows(path, file)
            for number, key, labels in rows:
                if labels and truth.setdefault(key, labels) != labels:
                    raise InputError(f"{path}:{number}: {key!r} has another label above; keep one of them")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8; save it as UTF-8"
        raise InputError(f"{path}: {reason}") from error
    if not truth:
        raise InputError(f"{path}: no image has a label")
    return truth


def _csv_rows(path: Path, file: TextIO) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    reader = csv.DictReader(file)
    header = reader.fieldnames or []
    read = cell_reader(header)
    key, label = _column(path, header, KEYS), _column(path, header, LABELS)
    try:
        for row in reader:
            yield reader.line_num, normalize(read(row[key] or "")), split_labels(read(row[label] or ""))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}") from error


def _json_rows(path: Path, file: TextIO) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: is not JSON; write one object a line") from error
        if not isinstance(row, Mapping):
            raise InputError(f"{path}:{number}: is not a JSON object")
        key, label = _column(f"{path}:{number}", row, KEYS), _column(f"{path}:{number}", row, LABELS)
        yield number, normalize(str(row[key])), _labels_of(row[label])


def _labels_of(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(dict.fromkeys(name for one in value if (name := normalize(str(one)))))
    return () if value is None else tuple(filter(None, [normalize(str(value))]))


def _column(place: object, header: Iterable[str], names: tuple[str, ...]) -> str:
    found = list(header)
    for name in names:
        if name in found:
            return name
    raise InputError(f"{place}: has no column {' or '.join(names)}; it has {', '.join(found) or 'no columns'}")
