"""URLs of a Redis behind Sentinel: what they say, and what is refused."""

import pytest

from tagmill.broker.app import make_app
from tagmill.broker_url import SentinelUrl, parse_sentinel_url
from tagmill.errors import ConfigurationError
from tagmill.settings import load_settings


def test_a_url_names_sentinels_logins_master_and_database() -> None:
    url = "sentinel://app:p%3Bw@one:1;[::1];three:3/4?master_name=shop&sentinel_username=s&sentinel_password=q"
    hosts = (("one", 1), ("::1", 26379), ("three", 3))
    assert parse_sentinel_url(url) == SentinelUrl(hosts, "shop", 4, "app", "p;w", "s", "q")
    assert parse_sentinel_url(url).first == "sentinel://app:p%3Bw@one:1/4"
    assert parse_sentinel_url("sentinel://one?master_name=m") == SentinelUrl((("one", 26379),), "m", 0)
    assert "p%3Bw" not in repr(load_settings(broker_url=url))


def test_tls_is_for_redis_and_sentinels() -> None:
    given = "ssl_cert_reqs=required&ssl_ca_certs=/ca.pem&ssl_check_hostname=false"
    conf = make_app(load_settings(broker_url=f"sentinel://one/0?master_name=m&{given}")).conf
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    assert conf.broker_use_ssl == tls
    assert conf.broker_transport_options["sentinel_kwargs"].items() >= {"ssl": True, **tls}.items()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sentinel://one:1,two:2/0?master_name=m", "must be sentinel://USER"),
        ("sentinel://one:1;sentinel://two:2/0?master_name=m", "must be sentinel://USER"),
        ("sentinel://one:1;;two:2/0?master_name=m", "must be sentinel://USER"),
        ("sentinel://:a/b@one/0?master_name=m", "must be sentinel://USER"),
        ("sentinel://one:66666/0?master_name=m", "must be sentinel://USER"),
        ("sentinel://one/x?master_name=m", "must be sentinel://USER"),
        ("sentinel://:a#b@one/0?master_name=m", "must be sentinel://USER"),
        ("sentinel:///0?master_name=m", "must be sentinel://USER"),
        ("sentinel://one/0", "names no master"),
        ("sentinel://one/0?master_name=", "names no master"),
        ("sentinel://:hunter2?x@one/0?master_name=m", "must be sentinel://USER"),
        ("sentinel://one/0?master=m", "unknown parameter behind its `\\?`; sentinel:// takes master_name"),
        ("sentinel://one/0?master_name=m&ssl_ca_certs=/ca", "without certificate checking"),
    ],
)
def test_a_url_that_is_wrong_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"TAGMILL_BROKER_URL: .*{said}") as caught:
        load_settings(broker_url=url)
    assert "hunter2" not in str(caught.value)
