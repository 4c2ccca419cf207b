"""A manifest on disk for the tests of sources."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[[bytes | str], str]:
    """Write a manifest `shop.csv` and return its path."""

    def write(content: bytes | str) -> str:
        path = tmp_path / "shop.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write
