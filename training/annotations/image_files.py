"""Find image files: below a folder, or by the names that a table gives them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import InputError
from tagmill.images.image import SUFFIXES
from tagmill.text import legible
from training.annotations.types import Labels


@dataclass(frozen=True)
class Tagged:
    """An image with its labels, and where it says so: FILE:LINE, a task, or a folder."""

    picture: Path
    labels: Labels
    place: str


@dataclass(frozen=True)
class Found:
    """What a source of labeled images holds."""

    pictures: list[Tagged]
    #: categories without any image
    empty: Labels = ()
    #: what was left out, for the user to read
    remarks: tuple[str, ...] = ()


def pictures_in(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted; hidden ones are passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def locate(names: Sequence[str], folders: Sequence[Path], place: str) -> Path:
    """Return the first file that is one of the names in one of the folders, or what the first name would be.

    An absolute name is taken as it is. Raises InputError for a URL and for what no file can be called.
    """
    for name in names:
        if "://" in name:
            raise InputError(f"{place}: {name} is a URL; download the images and name their files")
        if "\0" in name:
            raise InputError(f"{place}: {legible(name)} cannot be the name of a file")
    candidates = [folder / name for name in names for folder in folders]
    try:
        return next((path for path in candidates if path.is_file()), candidates[0])
    except OSError as error:
        raise InputError(f"{place}: {names[0][:60]}…: {error.strerror}; name an image file") from error


def merged(pictures: Sequence[Tagged], source: Path) -> list[Tagged]:
    """Return one entry an image with all of its labels, in order of appearance, however its path is written.

    Raises InputError where none of the files is there.
    """
    found: dict[str, Tagged] = {}
    for entry in pictures:
        file = os.path.realpath(entry.picture)
        known = found.setdefault(file, entry)
        if known is not entry:
            labels = tuple(dict.fromkeys((*known.labels, *entry.labels)))
            found[file] = Tagged(known.picture, labels, entry.place)
    check_present([entry.picture for entry in found.values()], source)
    return list(found.values())


def check_present(pictures: Sequence[Path], source: Path) -> None:
    """Raise InputError where none of the files is there; single missing ones are for the reader to skip."""
    if pictures and not any(path.is_file() for path in pictures):
        raise InputError(f"{source}: none of its {len(pictures)} images is there; the first would be {pictures[0]}")
