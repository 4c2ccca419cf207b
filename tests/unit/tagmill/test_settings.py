"""Invalid database URLs, broker URLs and .env files are refused before anything is written."""

from pathlib import Path
from urllib.parse import urlencode

import pytest
from kombu.exceptions import OperationalError

from tagmill.broker.app import make_app
from tagmill.broker.publish import open_channel
from tagmill.broker_url import _TLS_PARAMETERS
from tagmill.errors import ConfigurationError
from tagmill.settings import load_settings


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:abc/0",
        "redis://host:1/xyz",
        "redis://host:99999/0",
        "http://host",
        "redis://host/1/2",
        "redis://host/2/",
        "redis://:12#word@host/0",
        "redis://:pass;word@host/0",
    ],
)
def test_an_invalid_broker_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TAGMILL_BROKER_URL: must"):
        load_settings(broker_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host/0?nosuch=1",
        "redis://host/0?virtual_host=1",
        "redis://host/0?nosuch",
        "memory://localhost/?x=1",
        "redis://host/0?ssl_cert_reqs=required",
        "rediss://host/0?ssl_cert_reqs=required&socket_timeout=3",
        "redis://:12?hunter2@host:6379/0",
    ],
)
def test_an_unknown_broker_parameter_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TAGMILL_BROKER_URL: has an unknown parameter") as caught:
        load_settings(broker_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(_TLS_PARAMETERS))
def test_a_known_broker_parameter_reaches_the_connection(name: str) -> None:
    value = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true", "ssl_ciphers": "HIGH"}.get(name, "/file")
    url = "rediss://127.0.0.1:1/0?" + urlencode({"ssl_cert_reqs": "required", name: value})
    app = make_app(load_settings(broker_url=url))
    with pytest.raises(OperationalError, match="refused"), open_channel(app):
        pass


@pytest.mark.parametrize("queue", ["", "a,b", "a b", "a:b", "-a", "a\n", "x" * 101, "kleidergröße", "caf\udce9"])
def test_a_queue_name_that_celery_redis_or_sql_would_change_is_refused(queue: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^TAGMILL_QUEUE: must be 1 to 100 letters"):
        load_settings(queue=queue)


@pytest.mark.parametrize("queue", ["tagmill", "embedded-0123456789abcdef", "Shop_2.images", "x" * 100])
def test_a_valid_queue_name_is_accepted(queue: str) -> None:
    assert load_settings(queue=queue).queue == queue


@pytest.mark.parametrize("setting", ["broker_url", "database_url"])
def test_a_url_that_is_not_utf_8_is_refused(setting: str) -> None:
    scheme = "redis" if setting == "broker_url" else "postgresql"
    with pytest.raises(ConfigurationError, match=f"TAGMILL_{setting.upper()}: is not UTF-8"):
        load_settings(**{setting: f"{scheme}://:caf\udce9@host/0"})


@pytest.mark.parametrize(
    "url", ["redis://host", "redis://:secret@host:6379/2", "rediss://host/0?ssl_cert_reqs=required"]
)
def test_a_valid_broker_is_accepted(url: str) -> None:
    assert load_settings(broker_url=url).broker_url == url


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="name a file"):
        load_settings(database_url=url)


@pytest.mark.parametrize("value", ["inf", "nan", "0", "1e9"])
def test_a_time_that_is_not_finite_or_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="TAGMILL_STALL_SECONDS"):
        load_settings(stall_seconds=value)


def test_an_env_file_in_another_encoding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes("TAGMILL_QUEUE=kleidergröße\n".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^\.env: is not UTF-8; save it as UTF-8$"):
        load_settings()


def test_allowed_locations_are_prefixes_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_ALLOWED_LOCATIONS", "s3://shop-images/, gs://other/2026/")
    assert load_settings().allowed_locations == ("s3://shop-images/", "gs://other/2026/")
    monkeypatch.setenv("TAGMILL_ALLOWED_LOCATIONS", "s3://AKIA:hunter2@shop/")
    with pytest.raises(ConfigurationError, match="TAGMILL_ALLOWED_LOCATIONS: holds a s3:// prefix that holds a login"):
        load_settings()
