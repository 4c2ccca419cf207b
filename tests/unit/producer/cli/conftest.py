"""Fixtures of the tests of the producer's commands."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from support.bundles import write_classifier

from export.cli.model import model
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade


@pytest.fixture
def registered(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with the model `colors`, and a broker that is not used."""
    monkeypatch.setenv("TAGMILL_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(tmp_path / "models"))
    monkeypatch.setenv("TAGMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    upgrade(connect(sqlite_url))
    done = CliRunner().invoke(model, ["add", str(write_classifier(tmp_path / "colors.onnx"))])
    assert done.exit_code == 0, done.output
