"""Queries as sources, on SQLite; tests/integration/producer/test_sql_source.py has PostgreSQL."""

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from producer.cli.submit import submit
from producer.sources.manifests.formats import label_of
from producer.sources.open import absolute_source, check, open_sources, roots_of
from producer.sources.options import ReadOptions
from tagmill.errors import ConfigurationError, InputError, ServiceDown

QUERY = "sql:SELECT id, url AS uri, brand, price, ':x' AS colon FROM image WHERE brand LIKE 'N%' ORDER BY url"


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The URL of a database with a table of images."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE image (id INTEGER, url TEXT, brand TEXT, price REAL)")
        rows = [
            (1, "/1", "Nike", 1.5),
            (2, "/2", "Adidas", 2),
            (3, "/3", "Nike", None),
            (3, "/4", "N", 1),
            (None, "/5", "N", 1),
        ]
        connection.executemany("INSERT INTO image VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


def test_the_rows_of_a_query_are_entries_and_problems_name_the_row(shop: str) -> None:
    options = ReadOptions(source_url=shop)
    report = check([QUERY], options)
    label = "sql:SELECT id, url AS uri, brand, price, ':x' AS colon FROM…"
    assert sorted(map(str, report.problems)) == [
        f"{label}:3: image_key '3' is already in {label}:2",
        f"{label}:4: image_key is empty",
    ]
    found = list(open_sources([QUERY], options=ReadOptions(source_url=shop, limit=2)))
    assert [(entry.image_key, entry.uri, json.loads(entry.extra or "")) for entry in found] == [
        ("1", "/1", {"brand": "Nike", "price": 1.5, "colon": ":x"}),
        ("3", "/3", {"brand": "Nike", "colon": ":x"}),
    ]
    assert roots_of([QUERY], options) == (Path.cwd(),)
    assert absolute_source(QUERY) == QUERY


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT missing FROM image", "the query failed: no such column: missing"),
        ("SELECT id, brand FROM image", "has no column uri, url"),
        ("INSERT INTO image (url) VALUES ('/x') RETURNING url AS id, url", "attempt to write a readonly database"),
        ("SELECT 1.5 AS id, '/a' AS url", "image_key is neither text nor a whole number"),
        ("SELECT 1 AS id, 2 AS url", "uri is neither text nor a list of texts"),
    ],
)
def test_a_mistake_in_a_query_is_a_problem_and_nothing_is_written(shop: str, query: str, message: str) -> None:
    with pytest.raises((InputError, ServiceDown)) as caught:
        list(open_sources([f"sql:{query}"], options=ReadOptions(source_url=shop)))
    assert message in str(caught.value)


def test_a_database_that_is_missing_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    with pytest.raises(ConfigurationError, match="there is no SQLite database"):
        list(open_sources([QUERY], options=ReadOptions(source_url=url)))
    assert not list(tmp_path.iterdir())


def test_the_url_of_the_database_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://shop:s3cret-word@127.0.0.1:1/shop"
    options = ReadOptions(source_url=url)
    assert "s3cret" not in repr(options)
    with pytest.raises(ServiceDown) as caught:
        list(open_sources([QUERY], options=options))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.setenv("TAGMILL_SOURCE_URL", "oracle://shop:s3cret-word@h/x")
    done = CliRunner().invoke(submit, [QUERY, "--dry-run"])
    assert isinstance(done.exception, ConfigurationError)
    assert str(done.exception) == "TAGMILL_SOURCE_URL: names oracle; sqlite and postgresql are supported"


def test_without_a_url_the_error_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAGMILL_SOURCE_URL", raising=False)
    done = CliRunner().invoke(submit, [QUERY, "--dry-run"], standalone_mode=False)
    assert "--source-url or TAGMILL_SOURCE_URL" in done.output


def test_a_long_query_is_cut_off_in_messages() -> None:
    assert label_of("sql:SELECT  a\nFROM b") == "sql:SELECT a FROM b"
    assert len(label_of(f"sql:SELECT {'a, ' * 100} FROM b")) == 60
