"""Which hosts that are not public workers may fetch from: none, all, or a list of networks and names."""

import ipaddress
import re
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"", "false", "0", "no", "off", "f", "n"})
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
#: how the last label of a host begins if resolvers read the host as a number, such as 127.1 or 0x7f000001
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HOW = "write true, false, or networks and host names such as 10.0.0.0/8,*.shop.internal"


@dataclass(frozen=True)
class PrivateHosts:
    """The parsed value of TAGMILL_ALLOW_PRIVATE_HOSTS."""

    #: whether every address is allowed
    everything: bool = False
    #: addresses that are allowed, whatever the name of the host
    networks: tuple[Network, ...] = ()
    #: lower-case host names; `*.` in front stands for any name below
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: "str | bool | PrivateHosts") -> "PrivateHosts":
        """Parse `true`, `false` or a comma-separated list. Raise ValueError, in words for a user."""
        if isinstance(value, PrivateHosts):
            return value
        text = str(value).strip().lower()
        if text in _TRUE or text in _FALSE:
            return cls(everything=text in _TRUE)
        networks: list[Network] = []
        names: list[str] = []
        for item in filter(None, (part.strip() for part in text.split(","))):
            if _is_numeric(item):
                networks.append(_network(item))
            else:
                names.append(_name(item))
        if not networks and not names:
            raise ValueError(f"is {text[:60]!a}; {_HOW}")
        return cls(False, tuple(networks), tuple(names))

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return ",".join([*map(str, self.networks), *self.names]) or str(self.everything).lower()

    def has_name(self, host: str) -> bool:
        """Return whether the list names this host."""
        host = host.lower().rstrip(".")
        return any(host.endswith(name[1:]) if name.startswith("*") else host == name for name in self.names)

    def has_address(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Return whether a network of the list contains this address."""
        return any(address in network for network in self.networks)


def _is_numeric(item: str) -> bool:
    last = item.partition("/")[0].rstrip(".").rpartition(".")[2]
    return ":" in item or "/" in item or _NUMBER.fullmatch(last) is not None


def _network(item: str) -> Network:
    try:
        return ipaddress.ip_network(item.strip("[]") if "/" not in item else item)
    except ValueError:
        pass
    try:
        corrected = ipaddress.ip_network(item, strict=False)
    except ValueError:
        port = " without a port" if ":" in item and item.count(":") == 1 else ""
        raise ValueError(f"has {item[:60]!a}; write a network such as 10.0.0.0/8, or a host name{port}") from None
    raise ValueError(f"has {item[:60]!a}, whose address lies inside its network; write {corrected}")


def _name(item: str) -> str:
    try:
        name = item.rstrip(".").encode("idna").decode() if not item.isascii() else item.rstrip(".")
    except UnicodeError:
        name = ""
    if len(name) > 253 or name in {"true", "false"} or not _NAME.fullmatch(name):
        raise ValueError(f"has {item[:60]!a}; {_HOW}")
    return name
