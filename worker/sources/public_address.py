"""Which IP addresses are public: only these may a URL of a catalog lead to."""

import ipaddress

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


def is_public(address: str) -> bool:
    """Return whether a numeric address is public. An IPv6 address that wraps an IPv4 address counts as that address."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in _ASSIGNED:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or any(ip in network for network in _SPECIAL))
