"""Labeled images as a CSV of uri and labels; the results of a run, corrected by a person, are such a table."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from tagmill.errors import InputError, NothingToDo
from tagmill.outcomes import ImageStatus
from training.annotations.image_files import Found, Tagged, locate, merged
from training.annotations.types import Labels

#: between two labels of one image
SEPARATOR = "|"
#: folders below that of the table where its images may be
BESIDE = (".", "images")


def read_label_table(path: Path) -> Found:
    """Return the images of a CSV with a header: `uri`, and `label` or `labels`, several separated by a bar.

    Without such a column it is the MODEL.label that `tagmill results` writes; rows that were not tagged are left out.
    Raises InputError with file and line.
    """
    rows = _rows(path)
    line, header = next(rows, (1, []))
    uri, label = _columns(header, f"{path}:{line}")
    status = header.index("status") if "status" in header else None
    folders = [path.parent / name for name in BESIDE]
    pictures, failed = [], 0
    for line, row in rows:
        place = f"{path}:{line}"
        if len(row) != len(header):
            raise InputError(f"{place}: has {len(row)} columns, its header {len(header)}; quote values with a comma")
        if status is not None and row[status] not in {"", ImageStatus.TAGGED} and not row[label].strip():
            failed += 1
            continue
        if not row[uri].strip():
            raise InputError(f"{place}: has no uri")
        pictures.append(Tagged(locate([row[uri].strip()], folders, place), _labels(row[label]), place))
    if not pictures:
        raise NothingToDo(f"{path}: holds no labeled image")
    remarks = (f"{path}: {failed} images that were not tagged are left out",) if failed else ()
    return Found(merged(pictures, path), remarks=remarks)


def _labels(text: str) -> Labels:
    return tuple(dict.fromkeys(label.strip() for label in text.split(SEPARATOR) if label.strip()))


def _columns(header: Sequence[str], place: str) -> tuple[int, int]:
    """Return which columns hold uri and labels."""
    if "uri" not in header:
        raise InputError(f"{place}: has no column uri; a table of labels starts with the line uri,label")
    known = [name for name in header if name in {"label", "labels"}]
    if not known:
        known = [name for name in header if name.endswith((".label", ".labels"))]
    if not known:
        raise InputError(f"{place}: has no column label or labels")
    if len(known) > 1:
        raise InputError(f"{place}: has several columns of labels, {', '.join(known)}; name the one that counts label")
    return header.index("uri"), header.index(known[0])


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not empty with their line numbers; a byte order mark is passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8; save it as CSV UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from error
