"""Write results to standard output, a file, a folder or an object store. What was there stays until all is written."""

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from producer.output.destinations import object_store
from producer.output.destinations.local_folder import local_folder
from producer.output.formats import FileFormat, FolderFormat
from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import Folder, WriteOptions
from producer.output.writers.shards import write_shards
from tagmill.errors import InputError
from tagmill.files import open_atomic
from tagmill.locations.schemes import is_stored

STDOUT = "-"


def write_results(
    about: ResultSet,
    form: FileFormat | FolderFormat,
    output: str,
    options: WriteOptions,
    shard_images: int | None = None,
) -> int:
    """Write all images to an output, and return their number. Raise InputError if it cannot be written.

    `output` is `-`, a file, a folder, or an object of an object store or a prefix that ends in a slash. With
    `shard_images`, it is a folder with files of so many images each.
    """
    if not output:
        raise InputError("-o is empty; name a file or a folder")
    if isinstance(form, FolderFormat) or shard_images or _is_folder(output):
        if output == STDOUT:
            raise InputError("these are several files; name a folder: -o tags/")
        with _folder(output) as folder:
            return _write_folder(about, form, folder, options, shard_images)
    if output == STDOUT:
        out = _stdout(form)
        count = form.write(about, about, out, replace(options, for_people=form.is_text))
        out.flush()
        return count
    return _write_file(about, form, output, options)


def _write_file(about: ResultSet, form: FileFormat, output: str, options: WriteOptions) -> int:
    options = replace(options, for_people=_is_for_people(output))
    with _file(output) as out:
        count = form.write(about, about, out, options)
    if form.beside:
        suffix, content = form.beside
        with _file(output.removesuffix(form.suffix) + suffix) as out:
            out.write(content(about, options))
    return count


def _write_folder(
    about: ResultSet, form: FileFormat | FolderFormat, folder: Folder, options: WriteOptions, images: int | None
) -> int:
    if isinstance(form, FolderFormat):
        return form.write(about, folder, options)
    if form.beside:
        suffix, content = form.beside
        with folder.open(f"config{suffix}") as out:
            out.write(content(about, options))
    return write_shards(about, form.write, folder, f"part-{{number}}{form.suffix}", images, options)


def _is_folder(output: str) -> bool:
    return output.endswith("/") or (output != STDOUT and Path(output).is_dir())


def _is_for_people(output: str) -> bool:
    """Return whether a spreadsheet may open the output: a program reads a pipe or device that -o names."""
    return Path(output).is_file() or not Path(output).exists()


def _folder(output: str) -> AbstractContextManager[Folder]:
    return object_store.store_folder(output) if is_stored(output) else local_folder(Path(output))


def _file(output: str) -> AbstractContextManager[BinaryIO]:
    return object_store.store_object(output) if is_stored(output) else _local_file(output)


@contextmanager
def _local_file(output: str) -> Iterator[BinaryIO]:
    try:
        with open_atomic(Path(output)) as out:
            yield out
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}") from error


def _stdout(form: FileFormat) -> BinaryIO:
    if not isinstance(sys.stdout, io.TextIOWrapper):
        raise InputError("standard output is closed; name a file with -o")
    if not form.is_text and sys.stdout.isatty():
        raise InputError(f"{form.suffix.strip('.')} is no text for a terminal; name a file with -o")
    sys.stdout.flush()
    out: BinaryIO = sys.stdout.buffer
    return out
