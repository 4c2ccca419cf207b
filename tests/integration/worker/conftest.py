"""Fixtures of the worker's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.bundles import write_classifier
from support.shop import Shop


@pytest.fixture
def shop(engine: Engine, tmp_path: Path) -> Iterator[Shop]:
    """A worker in this process with the model `colors`, and an empty folder of images."""
    (tmp_path / "shop").mkdir()
    shop = Shop(engine, tmp_path / "shop", write_classifier(tmp_path / "colors.onnx"))
    yield shop
    shop.batches.close()
