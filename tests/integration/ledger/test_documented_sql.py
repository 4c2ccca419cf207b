"""Every SQL statement of the documents runs, and the reader that they create reads nothing but the views."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError
from support.ledger import batches, new_run, result_for, take

from tagmill.ledger.complete import complete
from tagmill.registry.models import Model

ROOT = Path(__file__).parents[3]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def statements() -> list[str]:
    blocks = [block for path in DOCUMENTS for block in re.findall(r"```sql\n(.*?)```", path.read_text(), flags=re.S)]
    return [one.strip() for block in blocks for one in block.split(";") if one.strip()]


def tag_one(engine: Engine, model: Model) -> None:
    claimed = take(engine, batches(engine, new_run(engine, model, images=1))[0])
    assert claimed is not None
    assert complete(engine, claimed, result_for(claimed), "worker")


def test_every_statement_runs(engine: Engine, model: Model) -> None:
    tag_one(engine, model)
    found = statements()
    assert len(found) > 8
    with engine.connect() as connection:
        for statement in found:
            if engine.dialect.name == "postgresql" or not statement.startswith(("CREATE ROLE", "GRANT")):
                connection.execute(text(statement))
        connection.rollback()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_documented_reader_reads_the_views_and_no_table(engine: Engine, model: Model) -> None:
    tag_one(engine, model)
    role = [one for one in statements() if one.startswith(("CREATE ROLE", "GRANT"))]
    assert len(role) == 2
    with engine.connect() as connection:
        for statement in role:
            connection.execute(text(statement))
        connection.execute(text("SET LOCAL ROLE shop"))
        for view, columns in (("catalog_labels", ("label", "sha256")), ("catalog_masks", ("label", "rle"))):
            assert read(connection, view, columns)
        with pytest.raises(ProgrammingError, match="permission denied"):
            read(connection, "result", ("image_id",))


def read(connection: Connection, table: str, columns: tuple[str, ...]) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(text(f"SELECT {', '.join(columns)} FROM {table}"))]
