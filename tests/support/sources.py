"""Read the sources of a run in a test, and make the files that they name."""

from pathlib import Path

import pytest

from producer.sources.open import open_sources
from tagmill.errors import InputError

#: the first line of a CSV manifest
HEADER = b"image_key,uri\n"


def make_files(folder: Path, *names: str) -> None:
    """Write files that are not images, with their folders."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def image_keys(*sources: str | Path) -> list[str]:
    """Return the image_key of each entry, in order."""
    return [entry.image_key for entry in open_sources([str(source) for source in sources])]


def error_of(*sources: str | Path) -> str:
    """Return the message of the InputError that the sources raise."""
    with pytest.raises(InputError) as caught:
        image_keys(*sources)
    return str(caught.value)
