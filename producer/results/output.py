"""Write results to standard output, a file or a folder of shards. What was there stays until all is written."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from producer.results.formats import FileFormat
from producer.results.result_set import ResultSet
from producer.results.writers.base import Folder, WriteOptions
from tagmill.errors import InputError
from tagmill.files import open_atomic

STDOUT = "-"
#: files of a folder that an earlier export may have left: they belong to it
_SHARD = re.compile(r"part-\d{5,}\.[a-z]+")


def is_folder(output: str) -> bool:
    """Return whether an output is a folder: it ends in a slash, or is one already."""
    return output.endswith("/") or (output != STDOUT and Path(output).is_dir())


def for_people(output: str) -> bool:
    """Return whether a spreadsheet may open the output: a program reads a pipe or device that -o names."""
    return output == STDOUT or Path(output).is_file() or not Path(output).exists()


def write_file(about: ResultSet, form: FileFormat, output: str, options: WriteOptions) -> int:
    """Write all images to one file or to standard output; return their number. Raise InputError."""
    if output == STDOUT:
        out = _stdout(form)
        count = form.write(about, about, out, options)
        out.flush()
        return count
    try:
        with open_atomic(Path(output)) as out:
            return form.write(about, about, out, options)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}") from error


def write_shards(about: ResultSet, form: FileFormat, folder: Folder, options: WriteOptions, images: int | None) -> int:
    """Write files `part-00000` and so on of at most so many images, at least one file; return the number of images."""
    results, count = iter(about), 0
    ahead = list(islice(results, 1))
    number = 0
    while ahead or number == 0:
        with folder.open(f"part-{number:05}{form.suffix}") as out:
            count += form.write(islice(chain(ahead, results), images), about, out, options)
        ahead = list(islice(results, 1))
        number += 1
    return count


class LocalFolder:
    """A folder on the disk, as `local_folder` opens it."""

    def __init__(self, staging: Path) -> None:
        self._staging = staging

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        path = self._staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            yield out


@contextmanager
def local_folder(path: Path) -> Iterator[LocalFolder]:
    """Open a folder, and make it if need be. What the block wrote is moved into it when the block ends.

    Shards of an earlier export that were not written again are removed. On an error the folder stays as it was. Raise
    InputError.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path, prefix=".tagmill-", suffix=".partial") as staging:
            yield LocalFolder(Path(staging))
            _move(Path(staging), path)
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror}; name another folder") from error


def _move(staging: Path, target: Path) -> None:
    written = [found.relative_to(staging) for found in sorted(staging.rglob("*")) if found.is_file()]
    for name in written:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(target / name)
    if any(_SHARD.fullmatch(name.name) for name in written):
        folders = {(target / name).parent for name in written}
        for left in (found for folder in folders for found in folder.iterdir() if _SHARD.fullmatch(found.name)):
            if left.relative_to(target) not in written:
                left.unlink()


def _stdout(form: FileFormat) -> BinaryIO:
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise InputError("standard output is closed; name a file with -o")
    if not form.is_text and sys.stdout.isatty():
        raise InputError(f"{form.suffix.strip('.')} is no text for a terminal; name a file with -o")
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    return out
