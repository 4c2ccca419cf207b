"""A folder on the disk that results are written into."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from tagmill.errors import InputError

#: files that an earlier export may have left: they belong to it
SHARD = re.compile(r"(?:part|train)-\d{5,}\.[a-z]+")


class LocalFolder:
    """A folder on the disk, as `local_folder` opens it."""

    def __init__(self, staging: Path) -> None:
        self._staging = staging

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file for writing; `name` is a relative path."""
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
    written = {found.relative_to(staging) for found in staging.rglob("*") if found.is_file()}
    for name in sorted(written):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(target / name)
    for folder in {(target / name).parent for name in written}:
        for left in folder.iterdir():
            if SHARD.fullmatch(left.name) and left.relative_to(target) not in written:
                left.unlink()
