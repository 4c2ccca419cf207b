"""The input and the output of a contender that runs as a script."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Images to tag, and the bundles to tag them with."""

    files: list[str]
    bundles: list[str]
    #: cores to use
    threads: int
    #: device of Tagmill's sessions
    device: str = "cpu"

    def first(self, images: int) -> "Job":
        """Return the same job with its first images only."""
        return replace(self, files=self.files[:images])


@dataclass(frozen=True)
class Timed:
    """How many images were tagged, and in how many seconds."""

    images: int
    seconds: float
    #: seconds of all cores that the worker took for the batches; 0: not known
    cpu_seconds: float = 0.0


def main(work: Callable[[Job], Timed]) -> None:
    """Run the job of the file that the first argument names; print the result as the last line."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps(asdict(work(job))), flush=True)
