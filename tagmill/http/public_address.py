"""Which IP addresses a URL of a catalog may lead to: public ones, and those that the settings allow."""

import ipaddress

from tagmill.locations.private_hosts import PrivateHosts

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: prefix of the IPv6 addresses under which NAT64 gateways show IPv4 addresses (RFC 6052)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: the IPv6 addresses of the public internet; all others are local, reserved or formerly local (fec0::/10)
_ASSIGNED = ipaddress.IPv6Network("2000::/3")
#: Special addresses in IANA's registries that some versions of Python call global (CVE-2024-4032). A worker must refuse
#: the same addresses on all versions.
_SPECIAL = (
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; Oracle Cloud's metadata service is at 192.0.0.192
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4, deprecated
    ipaddress.ip_network("168.63.129.16/32"),  # in no registry: the host of a virtual machine in Azure
    ipaddress.ip_network("2001::/23"),  # protocol assignments, among them Teredo, which wraps IPv4
    ipaddress.ip_network("2002::/16"),  # 6to4, which wraps IPv4
    ipaddress.ip_network("3fff::/20"),  # documentation
)

#: the networks that a host may be in that the settings allow by its name
_OWN = (
    *(ipaddress.ip_network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")),
    *(ipaddress.ip_network(block) for block in ("127.0.0.0/8", "::1/128", "fc00::/7")),
)
#: metadata services of clouds inside these networks; a name never leads to them
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")))


def is_public(address: str) -> bool:
    """Return whether a numeric address is public. An IPv6 address that wraps an IPv4 address counts as that address."""
    ip = _unwrapped(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _ASSIGNED:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or any(ip in network for network in _SPECIAL))


def may_connect(host: str, address: str, private: PrivateHosts) -> bool:
    """Return whether a host that resolved to this numeric address may be connected to."""
    if private.everything or is_public(address):
        return True
    ip = _unwrapped(address)
    if private.has_address(ip) or private.has_address(ipaddress.ip_address(address)):
        return True
    return private.has_name(host) and ip not in _METADATA and any(ip in network for network in _OWN)


def _unwrapped(address: str) -> Address:
    ip: Address = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
