"""The priorities of runs, and the order in which workers take batches.

Redis has no priorities, so each step of the order is a list of its own: QUEUE, QUEUE:3, QUEUE:5 and so on. A worker
takes the next batch from the first list that is not empty.
"""

from enum import IntEnum
from typing import Self


class Priority(IntEnum):
    """The priority of a run. Its number is the step of its batches, of which the lowest is served first."""

    #: before every other run
    URGENT = 3
    NORMAL = 6
    #: only while nothing else waits
    BACKFILL = 9

    @classmethod
    def parse(cls, word: str) -> Self:
        """Return the priority of a name in lower case."""
        return cls[word.upper()]

    @property
    def word(self) -> str:
        """Its name in lower case."""
        return self.name.lower()

    @property
    def retry_step(self) -> int:
        """The step of its batches that failed or lost their worker: before its others, behind higher priorities."""
        return _RETRY_STEPS[self]


_RETRY_STEPS = {Priority.URGENT: 0, Priority.NORMAL: 5, Priority.BACKFILL: 8}
#: every step, in the order in which they are served
STEPS: tuple[int, ...] = tuple(sorted({*map(int, Priority), *_RETRY_STEPS.values()}))
