"""The one message that the queue carries: the ids of a batch."""

from dataclasses import dataclass
from typing import Self

TAG_BATCH = "worker.tag_batch"


@dataclass(frozen=True)
class BatchMessage:
    """What travels through Redis: ids only. Everything else is read from SQL."""

    run: int
    batch: int

    LAYOUT = 1

    def to_json(self) -> dict[str, int]:
        """Return JSON values."""
        return {"layout": self.LAYOUT, "run": self.run, "batch": self.batch}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Parse a message. Raise ValueError for anything else: what Redis returns is untrusted input."""
        if not isinstance(data, dict) or set(data) != {"layout", "run", "batch"} or data["layout"] != cls.LAYOUT:
            raise ValueError("not a batch message of layout 1")
        ids = (data["run"], data["batch"])
        if not all(type(value) is int and 0 < value < 2**63 for value in ids):
            raise ValueError("run and batch must be positive integers")
        return cls(*ids)
