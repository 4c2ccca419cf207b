"""Which addresses count as public."""

import ipaddress

import pytest

from tagmill.http.public_address import is_public, may_connect
from tagmill.locations.private_hosts import PrivateHosts


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("192.0.1.1", True),
        ("168.63.129.15", True),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
        ("::ffff:192.0.0.192", False),
        ("64:ff9b::c000:c0", False),
        ("2002:c000:c0::", False),
        ("::192.0.0.192", False),
        ("::ffff:0:192.0.0.192", False),
        ("2003::1", True),
        ("2a00:1450::1", True),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


#: IANA's registries of special-purpose addresses of 2025, without the few blocks that are publicly routed; the last
#: line has blocks that were special formerly
SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/128", "::1/128", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64"),
    *("100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    *("5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
    *("::/96", "fec0::/10"),
]


@pytest.mark.parametrize("block", SPECIAL)
def test_no_address_of_a_special_block_is_public_in_any_version_of_python(block: str) -> None:
    network = ipaddress.ip_network(block)
    for address in (network[0], network[network.num_addresses // 2], network[-1]):
        assert not is_public(str(address))
        if address.version == 4:
            assert not is_public(f"::ffff:{address}")
            assert not is_public(str(ipaddress.IPv6Address("64:ff9b::") + int(address)))


@pytest.mark.parametrize(
    ("setting", "host", "address", "expected"),
    [
        ("false", "h", "8.8.8.8", True),
        ("false", "h", "10.0.0.1", False),
        ("true", "h", "169.254.169.254", True),
        ("10.0.0.0/8", "h", "10.1.2.3", True),
        ("10.0.0.0/8", "h", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "h", "64:ff9b::a01:203", True),
        ("10.0.0.0/8", "h", "11.1.2.3", True),
        ("10.0.0.0/8", "h", "172.16.0.1", False),
        ("10.1.2.3", "h", "10.1.2.4", False),
        ("fd00::/8", "h", "fd12::1", True),
        ("fd00::/8", "h", "10.0.0.1", False),
        ("169.254.0.0/16", "h", "169.254.169.254", True),
        ("0.0.0.0/0", "h", "169.254.169.254", True),
        ("0.0.0.0/0", "h", "::1", False),
        ("h.internal", "h.internal", "10.0.0.1", True),
        ("h.internal", "h.internal", "fd12::1", True),
        ("h.internal", "h.internal", "127.0.0.1", True),
        ("h.internal", "h.internal", "169.254.169.254", False),
        ("h.internal", "h.internal", "fd00:ec2::254", False),
        ("h.internal", "h.internal", "::ffff:169.254.169.254", False),
        ("h.internal", "h.internal", "fe80::1", False),
        ("h.internal", "h.internal", "224.0.0.1", False),
        ("h.internal,169.254.169.254", "h.internal", "169.254.169.254", True),
        ("h.internal", "x.h.internal", "10.0.0.1", False),
        ("*.h.internal", "y.x.h.internal", "10.0.0.1", True),
        ("*.h.internal", "xh.internal", "10.0.0.1", False),
    ],
)
def test_the_setting_allows_networks_and_names(setting: str, host: str, address: str, expected: bool) -> None:
    assert may_connect(host, address, PrivateHosts.parse(setting)) is expected
