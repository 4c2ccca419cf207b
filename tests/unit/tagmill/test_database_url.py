"""URLs of PostgreSQL that name several hosts."""

import pytest

from tagmill.database_url import sqlalchemy_url
from tagmill.errors import ConfigurationError
from tagmill.settings import load_settings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgresql://u:p%40@one:1,two:2/shop", "postgresql://u:p%40@/shop?host=one,two&port=1,2"),
        ("postgresql://one,two:2?a=b&c", "postgresql:///?host=one,two&port=,2&a=b&c"),
        ("postgresql+psycopg://u@[::1]:1,two/shop", "postgresql+psycopg://u@/shop?host=%3A%3A1,two&port=1,"),
        ("postgresql://one,two/shop?sslmode=require", "postgresql:///shop?host=one,two&sslmode=require"),
        ("postgresql://u:a,b@one/shop", None),
        ("postgresql://u@/shop?host=one:1&host=two:2", None),
        ("sqlite:///a,b.db", None),
    ],
)
def test_several_hosts_are_read_as_libpq_reads_them(given: str, read: str | None) -> None:
    assert sqlalchemy_url(given) == load_settings(database_url=given).database_url == (read or given)


@pytest.mark.parametrize("url", ["postgresql://one:x,two/shop", "postgresql://one,,two/shop"])
def test_hosts_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TAGMILL_DATABASE_URL: "):
        load_settings(database_url=url)
