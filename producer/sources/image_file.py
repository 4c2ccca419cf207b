"""Read one image file that was named as a source."""

from collections.abc import Iterator
from pathlib import Path

from producer.sources.base import Problem, Row, folder_of
from tagmill.text import normalize


def read_image_file(source: str) -> Iterator[Row | Problem]:
    """Yield one row, whose image_key is the file's name."""
    path = Path(source)
    yield Row(0, normalize(path.name), str(folder_of(path) / path.name))
