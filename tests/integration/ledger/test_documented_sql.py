"""Every SQL statement of the documents runs, and the reader that they create reads nothing but the views."""

import re
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, text
from support.embeddings import embedding_model, store, unit
from support.ledger import batches, new_run, result_for, take

from tagmill.db.roles import Kind, grant_role
from tagmill.errors import DatabaseRefusedError
from tagmill.ledger.complete import complete
from tagmill.registry.models import Model

ROOT = Path(__file__).parents[3]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def statements(language: str = "sql") -> list[str]:
    pattern = rf"```{language}\n(.*?)```"
    blocks = [block for path in DOCUMENTS for block in re.findall(pattern, path.read_text(), flags=re.S)]
    return [one.strip() for block in blocks for one in block.split(";") if one.strip()]


def tag_one(engine: Engine, model: Model) -> None:
    claimed = take(engine, batches(engine, new_run(engine, model, images=1))[0])
    assert claimed is not None
    assert complete(engine, claimed, result_for(claimed), "worker")


def test_every_statement_runs(engine: Engine, model: Model) -> None:
    tag_one(engine, model)
    found = dict.fromkeys(statements())  # two documents create the same roles
    assert len(found) > 8
    with engine.connect() as connection:
        for statement in found:
            if engine.dialect.name == "postgresql" or not statement.startswith(("CREATE ROLE", "REVOKE")):
                # Roles are of the whole server, and other tests create them, too.
                connection.execute(text(re.sub(r"(?<=CREATE ROLE )", "documented_", statement)))
        connection.rollback()


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_every_statement_for_pgvector_finds_what_it_looks_for(stored: Engine) -> None:
    model = embedding_model(stored, 256, "shop")
    vectors = unit(np.random.default_rng(0).normal(size=(3, 256)))
    store(stored, model, dict(zip(("shoe-17", "shoe-18", "shoe-19"), vectors, strict=True)))
    found = [one.replace("model_id = 7", f"model_id = {model.id}") for one in statements("postgresql")]
    assert len(found) >= 2
    with stored.connect() as connection:
        for statement in found:
            assert connection.execute(text(statement)).all(), statement


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_documented_reader_reads_the_views_and_no_table(engine: Engine, model: Model) -> None:
    tag_one(engine, model)
    (role,) = (one for one in statements() if one.startswith("CREATE ROLE shop"))
    with engine.connect() as connection:
        connection.execute(text(role))
        grant_role(connection, Kind.READER, "shop")
        connection.execute(text("SET LOCAL ROLE shop"))
        for view, columns in (("catalog_labels", ("label", "sha256")), ("catalog_masks", ("label", "rle"))):
            assert read(connection, view, columns)
        with pytest.raises(DatabaseRefusedError, match="permission denied"):
            read(connection, "result", ("image_id",))


def read(connection: Connection, table: str, columns: tuple[str, ...]) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(text(f"SELECT {', '.join(columns)} FROM {table}"))]
