"""One image takes a straight path through the worker's batch."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_one_image_passes_the_batch_without_turning_back_more_than_it_may() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.path"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["0", "worker.task"]
    assert lines[-1].endswith("returns to a module left before")
    passed = [line.split()[1] for line in lines[:-1]]
    stages = ["ledger", "known", "fetch", "decode", "infer", "complete"]
    places = [next(at for at, name in enumerate(passed) if name.endswith(f".{stage}")) for stage in stages]
    assert places == sorted(places)
