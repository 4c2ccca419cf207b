"""What a contender that runs as a script is given, and what it answers."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Images to tag with bundles."""

    files: list[str]
    bundles: list[str]
    #: cores to use
    threads: int
    #: Tagmill's provider
    device: str = "cpu"


@dataclass(frozen=True)
class Timed:
    """The images that went through, and the seconds they took."""

    images: int
    seconds: float


def main(work: Callable[[Job], Timed]) -> None:
    """Do the job in the file that is named; print the outcome as the last line."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps(asdict(work(job))), flush=True)
