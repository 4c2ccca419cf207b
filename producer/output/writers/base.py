"""What writers of results are given besides the images: options, and a folder for formats of several files."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Protocol
from urllib.parse import quote

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet


class MasksAs(StrEnum):
    """How Label Studio gets masks."""

    #: exact, pixel by pixel
    BRUSH = "brush"
    #: outlines, which people can edit point by point
    POLYGON = "polygon"


@dataclass(frozen=True)
class WriteOptions:
    """Options of writers; each format takes those that concern it."""

    #: CSV: one row per label or mask instead of one per image
    long: bool = False
    #: CSV: begin with a byte order mark if there is other text than ASCII
    for_people: bool = False
    #: Label Studio
    masks_as: MasksAs = MasksAs.BRUSH
    #: formats that name images: how locations begin, and how they begin for the program that reads the results
    image_prefix: tuple[str, str] | None = None


def image_location(uri: str, options: WriteOptions) -> str:
    """Return where the program that reads the results finds an image. A path behind a URL is percent-encoded."""
    old, new = options.image_prefix or ("", "")
    if not old or not uri.startswith(old):
        return uri
    rest = uri[len(old) :]
    is_path_in_url = "://" not in uri and ("://" in new or "?" in new)
    return new + (quote(rest) if is_path_in_url else rest)


class Folder(Protocol):
    """A folder, or a prefix of an object store, that files are written into."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a new file for writing; `name` is a relative path with slashes."""


#: Writes images to a file. Returns their number.
FileWriter = Callable[[Iterable[ImageResult], ResultSet, BinaryIO, WriteOptions], int]
#: Writes all images to a folder. Returns their number.
FolderWriter = Callable[[ResultSet, Folder, WriteOptions], int]
