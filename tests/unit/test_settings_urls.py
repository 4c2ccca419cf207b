"""Database and broker URLs and .env files that cannot work are refused before anything is written."""

from pathlib import Path

import pytest

from tagmill.errors import ConfigurationError
from tagmill.settings import load_settings


@pytest.mark.parametrize("url", ["redis://host:abc/0", "redis://host:1/xyz", "redis://host:99999/0", "http://host"])
def test_a_mistyped_broker_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TAGMILL_BROKER_URL: must"):
        load_settings(broker_url=url)


@pytest.mark.parametrize(
    "url", ["redis://host", "redis://:secret@host:6379/2", "rediss://host/0?ssl_cert_reqs=required"]
)
def test_a_broker_is_accepted(url: str) -> None:
    assert load_settings(broker_url=url).broker_url == url


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="name a file"):
        load_settings(database_url=url)


@pytest.mark.parametrize("value", ["inf", "nan", "0", "1e9"])
def test_a_time_without_end_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="TAGMILL_STALL_SECONDS"):
        load_settings(stall_seconds=value)


def test_a_file_of_settings_in_another_encoding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes("TAGMILL_QUEUE=kleidergröße\n".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^\.env: is not UTF-8; save it as UTF-8$"):
        load_settings()
