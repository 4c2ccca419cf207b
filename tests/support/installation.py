"""One installation of Tagmill for a test: its settings, its folder, and the commands of a user and an operator."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from support.bundles import write_classifier, write_segmenter
from support.processes import environment, tagmill, tagmill_json, wait_until
from tagmill.bundles.metadata import BundleSpec, sha256_of
from tagmill.bundles.onnx_file import read_metadata
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.models import register
from tagmill.registry.store import ModelStore


@dataclass
class Site:
    """One installation: its environment, its folder, and the models colors@1 and color-masks@1."""

    env: dict[str, str]
    folder: Path

    def count(self, statement: str) -> int:
        """Return the integer that a statement selects."""
        engine = create_engine(self.env["TAGMILL_DATABASE_URL"])
        with engine.connect() as connection:
            found = int(connection.execute(text(statement)).scalar_one())
        engine.dispose()
        return found

    def values(self, statement: str) -> list[Any]:
        """Return the rows of a statement as tuples, or as plain values if it selects one column."""
        engine = create_engine(self.env["TAGMILL_DATABASE_URL"])
        with engine.connect() as connection:
            rows = connection.execute(text(statement)).all()
        engine.dispose()
        return [row[0] if len(row) == 1 else tuple(row) for row in rows]

    def submit(self, *arguments: object, expect: int = 0) -> dict[str, object]:
        """Run `tagmill submit` and return what it printed."""
        found: dict[str, object] = tagmill_json("submit", *arguments, env=self.env, expect=expect)
        return found

    def rows(self, run: object) -> list[dict[str, str]]:
        """Return the rows of `tagmill results`."""
        return list(csv.DictReader(io.StringIO(tagmill("results", run, env=self.env).stdout)))

    def wait_done(self, run: object, seconds: float = 120) -> None:
        """Return when the run is done. It reads SQL itself: a command would take half a second of a core each time."""
        engine = connect(self.env["TAGMILL_DATABASE_URL"])
        wait_until(lambda: run_progress(engine, int(str(run))).state == "done", seconds, f"run {run} to be done")
        engine.dispose()


def new_site(folder: Path, database_url: str, broker_url: str, **settings: object) -> Site:
    """Return an installation that notices the death of a worker quickly, unless `settings` say otherwise."""
    quick = {"lease_seconds": 3, "reap_seconds": 0.5, "queued_grace_seconds": 2, "log_level": "INFO"} | settings
    env = environment(database_url=database_url, broker_url=broker_url, model_store=folder / "models", **quick)
    # What `tagmill db upgrade` and `tagmill model add` do, without three processes.
    engine = connect(database_url)
    upgrade(engine)
    for bundle in (write_classifier(folder / "colors.onnx"), write_segmenter(folder / "masks.onnx")):
        sha256 = sha256_of(bundle)
        ModelStore(folder / "models").add(bundle, sha256)
        register(engine, BundleSpec.from_metadata(read_metadata(bundle)), sha256)
    engine.dispose()
    return Site(env, folder)
