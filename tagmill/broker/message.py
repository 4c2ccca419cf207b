"""The one message that the queue carries: the ids of a batch."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

TAG_BATCH = "worker.tag_batch"


class Priority(IntEnum):
    """The priority of a message: the lowest number is served first. Each priority has a Redis list of its own."""

    #: a batch that failed or lost its worker: it must not wait behind a long queue
    RETRY = 0
    #: a batch of a run that was submitted with --priority urgent
    URGENT = 3
    #: a batch as it was submitted
    NORMAL = 6
    #: a batch of a run that was submitted with --priority backfill
    BACKFILL = 9


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
