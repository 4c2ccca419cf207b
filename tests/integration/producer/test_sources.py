"""Sources with real databases: what is queried from PostgreSQL, and what is stored of further columns."""

import json
import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, select, text
from support.ledger import new_model

from producer.sources.open import open_sources
from producer.sources.options import ReadOptions
from tagmill.db.schema import entry
from tagmill.errors import ConfigurationError, InputError
from tagmill.ledger.runs.create import create_run

ROWS = 10_000


@pytest.fixture
def shop_url(postgres_url: str) -> str:
    """The URL of a database with a table of images."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SEQUENCE counter"))
        connection.execute(
            text("CREATE TABLE image (sku text, urls text[], price numeric, added timestamptz, page text)")
        )
        connection.execute(
            text(
                "INSERT INTO image SELECT 'sku-' || n, ARRAY['/a', NULL, '/b'], 12.50, "
                "'2026-01-02 03:04:05+00', repeat(md5(n::text), 30) FROM generate_series(1, :rows) AS n"
            ),
            {"rows": ROWS},
        )
    engine.dispose()
    return postgres_url


def test_a_query_is_read_in_flat_memory_and_cannot_write(shop_url: str) -> None:
    query = "sql:SELECT sku AS id, urls AS uri, price, added, page FROM image WHERE sku LIKE '%'::text"
    entries = open_sources([query], options=ReadOptions(source_url=shop_url))
    first, second = next(entries), next(entries)
    assert [(found.image_key, found.uri) for found in (first, second)] == [("sku-1", "/a"), ("sku-1#2", "/b")]
    columns = json.loads(first.extra or "")
    assert (columns["price"], columns["added"], len(columns["page"])) == (12.5, "2026-01-02T03:04:05+00:00", 960)
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries) == 2 * ROWS - 2
        # The rows have 10 MB.
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(InputError, match="read-only transaction"):
        list(
            open_sources(["sql:SELECT nextval('counter') AS id, '/a' AS uri"], options=ReadOptions(source_url=shop_url))
        )


def test_a_wrong_login_names_the_option_and_no_password(postgres_url: str) -> None:
    url = (
        create_engine(postgres_url).url.set(username="nobody", password="s3cret").render_as_string(hide_password=False)
    )
    with pytest.raises(ConfigurationError, match="--source-url") as caught:
        list(open_sources(["sql:SELECT 1"], options=ReadOptions(source_url=url)))
    assert "s3cret" not in str(caught.value)


def test_further_columns_are_stored_with_their_entries(engine: Engine, tmp_path: Path) -> None:
    source = tmp_path / "shop.jsonl"
    source.write_text('{"id":"a","uri":"/a","brand":"Größe","price":1.5}\n{"id":"b","uri":"/b"}\n')
    run_id = create_run(engine, "shop", open_sources([str(source)]), [new_model(engine)], [], 64, "tagmill")
    with engine.connect() as connection:
        stored = connection.execute(select(entry.c.extra).where(entry.c.run_id == run_id).order_by(entry.c.position))
        assert stored.scalars().all() == ['{"brand":"Größe","price":1.5}', None]
