"""A gate of a promotion, and what it found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tagmill.errors import ExitCode, TagmillError


class GateStatus(StrEnum):
    """What became of a gate."""

    PASSED = "passed"
    #: the version is not promoted, unless that is forced
    FAILED = "failed"
    #: there was nothing to check it with: see `export.promotion.decision` for when that stops a promotion
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Gate:
    """One gate, and what it found."""

    name: str
    status: GateStatus
    #: why, in words
    detail: str
    #: figures, as JSON values
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name:<15} {self.status}: {self.detail}"

    def to_json(self) -> dict[str, Any]:
        """Return what the audit row of a promotion holds of it: its figures, and in words only why it failed."""
        said = {"detail": self.detail} if self.status is GateStatus.FAILED else {}
        return {"status": self.status.value, **said, **self.values}


class GateFailedError(TagmillError):
    """A version that is not promoted because a gate failed."""

    exit_code = ExitCode.GATE_FAILED


def passed(name: str, detail: str, **values: Any) -> Gate:
    """Return a gate that passed."""
    return Gate(name, GateStatus.PASSED, detail, values)


def failed(name: str, detail: str, **values: Any) -> Gate:
    """Return a gate that failed."""
    return Gate(name, GateStatus.FAILED, detail, values)


def not_checked(name: str, detail: str) -> Gate:
    """Return a gate that there was nothing to check with."""
    return Gate(name, GateStatus.NOT_CHECKED, detail)
