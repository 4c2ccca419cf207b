"""Write images that are in a Parquet file itself as files, for workers to read."""

from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from producer.sources.manifests.manifest import Manifest, ManifestError
from tagmill.errors import ConfigurationError
from tagmill.files import atomic_write
from tagmill.images.image import SUFFIXES
from tagmill.text import normalize

#: bytes of a file name, with room for a suffix
_MAX_NAME = 200
#: first bytes of common formats and their suffixes, for people: workers look at the bytes
_MAGIC = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"RIFF", ".webp"), (b"BM", ".bmp"))


class Extractor:
    """Writes the images of one Parquet file into the folder of `--extract`. Raise ManifestError if none is named."""

    def __init__(self, manifest: Manifest) -> None:
        if manifest.options.extract is None:
            raise ManifestError(
                "holds its images itself: name a folder with --extract, and they are written there as files"
            )
        self._folder = manifest.options.extract.resolve()
        self._writes = manifest.options.writes

    def locate(self, cell: Any, image_key: str, number: int) -> tuple[str | None, bytes | None]:
        """Return where an image is to be written, and its bytes; or the path that stands in place of bytes."""
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            return path_of(cell), None
        return str(self._folder / file_name(image_key, number, content)), content

    def write(self, path: str, content: bytes) -> None:
        """Write an image, unless this is a dry run. Raise ConfigurationError if the disk does not take it."""
        if self._writes:
            _write(Path(path), content)


def path_of(cell: Any) -> str | None:
    """Return the path in a cell that is a struct of bytes and path."""
    path = cell.get("path") if isinstance(cell, dict) else None
    return path if isinstance(path, str) else None


def file_name(image_key: str, number: int, content: bytes) -> str:
    """Return the file name for an image: its key, with what may not be in a file name percent-encoded."""
    key = normalize(image_key) + (f"#{number + 1}" if number else "")
    name = quote(key.encode("utf-8", "surrogateescape"), safe=" #()+,=@")
    if name.startswith("."):  # hidden, or the folder above
        name = f"%2E{name[1:]}"
    if len(name) > _MAX_NAME:
        name = sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    if PurePath(name).suffix.lower() in SUFFIXES:
        return name
    return name + next((suffix for magic, suffix in _MAGIC if content.startswith(magic)), "")


def _write(path: Path, content: bytes) -> None:
    """Write a file, unless it is there already: workers know files that have not changed."""
    try:
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}; make room, or name another folder with --extract"
        ) from error
