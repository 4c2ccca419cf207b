"""Read labeled images from a CSV of uri and labels, for example the corrected results of a run."""

from collections.abc import Sequence
from pathlib import Path

from tagmill.csv_cells import cell_reader, read_rows, split_labels
from tagmill.errors import InputError, NothingToDo
from tagmill.outcomes import ImageStatus
from tagmill.text import normalize, trim
from training.annotations.image_files import ImageFinder, LabeledImage, LabeledImages, merge_labels

#: where images may be, relative to the folder of the CSV
IMAGE_FOLDERS = (".", "images")


def read_label_csv(path: Path) -> LabeledImages:
    """Return the images of a CSV with the columns `uri` and `label` or `labels`; a bar separates several labels.

    Without a label column, the column MODEL.label that `tagmill results` writes is read, and rows that were not tagged
    are left out. Raise InputError with file and line.
    """
    rows = read_rows(path)
    line, header = next(rows, (1, []))
    header = [normalize(name) for name in header]
    uri, label = _columns(header, f"{path}:{line}")
    status = header.index("status") if "status" in header else None
    finder = ImageFinder([path.parent / name for name in IMAGE_FOLDERS])
    read_cell = cell_reader(header)
    images, failed = [], 0
    for line, row in rows:
        place = f"{path}:{line}"
        if len(row) != len(header):
            raise InputError(f"{place}: has {len(row)} columns, its header {len(header)}; quote values with a comma")
        if status is not None and trim(row[status]) not in {"", ImageStatus.TAGGED} and not trim(row[label]):
            failed += 1
            continue
        if not (name := trim(read_cell(row[uri]))):
            raise InputError(f"{place}: has no uri")
        images.append(LabeledImage(finder.locate([name], place), split_labels(read_cell(row[label])), place))
    if not images:
        raise NothingToDo(f"{path}: holds no labeled image")
    notes = (f"{path}: {failed} images that were not tagged are left out",) if failed else ()
    return LabeledImages(merge_labels(images, path), notes=notes)


def _columns(header: Sequence[str], place: str) -> tuple[int, int]:
    """Return the positions of the uri column and the label column. Raise InputError if there is not one of each."""
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
