"""How the images of a run are fetched, as its submission says: see docs/hosts.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HostLimits:
    """How much all workers together ask of one host; 0 is no limit."""

    #: requests under way at the same time
    concurrent: int = 0
    #: requests per second
    rate: float = 0.0

    @classmethod
    def of(cls, concurrent: int | None, rate: float | None) -> "HostLimits | None":
        """Return the limits; None if there are none."""
        return cls(concurrent or 0, rate or 0.0) if concurrent or rate else None

    def lower(self, other: "HostLimits | None") -> "HostLimits":
        """Return limits that keep both."""
        if other is None:
            return self
        concurrent = min(filter(None, (self.concurrent, other.concurrent)), default=0)
        return HostLimits(concurrent, min(filter(None, (self.rate, other.rate)), default=0.0))


@dataclass(frozen=True)
class FetchOptions:
    """The options of a run that say how its images are fetched."""

    #: whether files and URLs are read that have not changed
    refetch: bool = False
    limits: HostLimits | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `run.parameters` holds of it."""
        limits = {"per_host": self.limits.concurrent, "per_host_rate": self.limits.rate} if self.limits else {}
        return ({"refetch": True} if self.refetch else {}) | limits

    @classmethod
    def from_json(cls, parameters: Mapping[str, Any]) -> "FetchOptions":
        """Read `run.parameters`."""
        limits = HostLimits.of(parameters.get("per_host"), parameters.get("per_host_rate"))
        return cls(bool(parameters.get("refetch")), limits)

    @staticmethod
    def without(parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return `run.parameters` without what is read here."""
        mine = ("refetch", "per_host", "per_host_rate")
        return {name: value for name, value in parameters.items() if name not in mine}


#: without options
FETCH_ALL = FetchOptions()
