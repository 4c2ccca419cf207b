"""Find image files, below a folder or by the names in an annotation file, and collect their labels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import InputError
from tagmill.images.file_names import HIDDEN, NOT_UTF8, SkippedFiles, is_hidden, skipped_kind
from tagmill.locations.disk_spelling import DiskSpelling
from tagmill.text import is_utf8, legible
from training.annotations.types import Labels


@dataclass(frozen=True)
class LabeledImage:
    """An image file with its labels, and the place that names it: FILE:LINE, a task of Label Studio, or a folder."""

    image: Path
    labels: Labels
    place: str


@dataclass(frozen=True)
class LabeledImages:
    """The labeled images of one source."""

    images: list[LabeledImage]
    #: categories without any image
    empty: Labels = ()
    #: messages for the user about what was left out
    notes: tuple[str, ...] = ()


def images_in(folder: Path, skipped: SkippedFiles | None = None) -> list[Path]:
    """Return the image files below a folder, sorted; `skipped` is told of the other files, hidden ones among them."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        below = path.relative_to(folder)
        kind = HIDDEN if any(map(is_hidden, below.parts)) else skipped_kind(path.name)
        if kind is None or kind == NOT_UTF8:
            found.append(path)
        elif skipped is not None:
            skipped.add(kind, str(below))
    return found


class ImageFinder:
    """Finds the files that an annotation file names, below its folders, under the spelling on the disk."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._spelling = DiskSpelling()

    def locate(self, names: Sequence[str], place: str) -> Path:
        """Return the first existing file among the names in the folders, else the first name in the first folder.

        An absolute name is taken as it is. Raise InputError for a URL and for a string that cannot be a file name.
        """
        for name in names:
            if "://" in name:
                raise InputError(f"{place}: {name} is a URL; download the images and name their files")
            if "\0" in name or not is_utf8(name):
                raise InputError(f"{place}: {legible(name)} cannot be the name of a file")
        candidates = [folder / name for name in names for folder in self._folders]
        try:
            if found := next((path for path in candidates if path.is_file()), None):
                return found
        except OSError as error:
            raise InputError(f"{place}: {names[0][:60]}…: {error.strerror}; name an image file") from error
        spelled = (Path(self._spelling.find(str(path))) for path in candidates)
        return next((path for path in spelled if path.is_file()), candidates[0])


def merge_labels(entries: Sequence[LabeledImage], source: Path) -> list[LabeledImage]:
    """Return one entry per image file with all of its labels, in order of appearance.

    Two paths that resolve to the same file are one image. Raise InputError if none of the files exists.
    """
    by_file: dict[str, LabeledImage] = {}
    for entry in entries:
        file = os.path.realpath(entry.image)
        known = by_file.setdefault(file, entry)
        if known is not entry:
            labels = tuple(dict.fromkeys((*known.labels, *entry.labels)))
            by_file[file] = LabeledImage(known.image, labels, entry.place)
    require_any_file([entry.image for entry in by_file.values()], source)
    return list(by_file.values())


def require_any_file(images: Sequence[Path], source: Path) -> None:
    """Raise InputError if none of the files exists. Single missing files are skipped later, when they are decoded."""
    if images and not any(path.is_file() for path in images):
        raise InputError(f"{source}: none of its {len(images)} images is there; the first would be {images[0]}")
