"""TAGMILL_ALLOW_PRIVATE_HOSTS: true, false, or networks and names."""

import pytest

from tagmill.errors import ConfigurationError
from tagmill.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        *((word, "true") for word in ("true", "True", "1", "yes", "ON")),
        *((word, "false") for word in ("false", "0", "no", "off", "", " ")),
        (True, "true"),
        (False, "false"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.0.0.0/8 , fd00::/8,192.168.1.7,[::1],", "10.0.0.0/8,fd00::/8,192.168.1.7/32,::1/128"),
        ("Images.internal.,*.Shop.internal", "images.internal,*.shop.internal"),
        ("localhost,my_minio", "localhost,my_minio"),
        ("쇼핑.internal", "xn--hp4bo76a.internal"),
    ],
)
def test_a_value_is_read_and_survives_json(given: str | bool, read: str) -> None:
    settings = load_settings(allow_private_hosts=given)
    assert str(settings.allow_private_hosts) == read
    again = Settings(**settings.model_dump(mode="json"))
    assert again.allow_private_hosts == settings.allow_private_hosts


def test_the_environment_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_ALLOW_PRIVATE_HOSTS", "10.0.0.0/8,images.internal")
    assert str(load_settings().allow_private_hosts) == "10.0.0.0/8,images.internal"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("10.0.0.1/8", "has '10.0.0.1/8', whose address lies inside its network; write 10.0.0.0/8"),
        ("10.0.0.0/33", "has '10.0.0.0/33'; write a network"),
        ("300.1.1.1", "has '300.1.1.1'; write a network"),
        ("127.1", "has '127.1'; write a network"),
        ("0x7f000001", "has '0x7f000001'; write a network"),
        ("images.internal:8080", "has 'images.internal:8080'; write a network .*, or a host name without a port"),
        ("http://images.internal", "has 'http://images.internal'; write a network"),
        ("*", "has '[*]'; write true, false, or networks and host names"),
        ("*internal", "has '[*]internal'; write true"),
        ("a b", "has 'a b'; write true"),
        ("a;b", "has 'a;b'; write true"),
        ("true,10.0.0.0/8", "has 'true'; write true, false, or"),
        (",", "is ','; write true"),
        ("-a.internal", "has '-a.internal'; write true"),
        ("x" * 64, "has 'x+'; write true"),
        ("caf\udce9", r"has 'caf\\udce9'; write true"),
    ],
)
def test_a_wrong_value_is_named(given: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^TAGMILL_ALLOW_PRIVATE_HOSTS: {reason}") as caught:
        load_settings(allow_private_hosts=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("agent", ["a\nb", "a\r\nX-Evil: 1", "käse", " a", "a\t", "x" * 257, "", "caf\udce9", "\0"])
def test_a_user_agent_that_is_no_header_is_refused(agent: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^TAGMILL_USER_AGENT: must be one line of 1 to 256 printable ASCII"):
        load_settings(user_agent=agent)


def test_a_user_agent_may_name_a_contact() -> None:
    contact = "shop-tagger/1.0 (+https://shop.example/bot; mailto:ops@shop.example)"
    assert load_settings(user_agent=contact).user_agent == contact
