"""Feed damaged images to a child process that decodes them, and count what becomes of each."""

import itertools
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: seconds for one file; the longest that was seen took 6 on a busy machine
DEADLINE = 30.0
_TESTS = Path(__file__).parents[1]


@dataclass
class Findings:
    """What became of the files. `odd` holds those that ended in anything but pixels or a code."""

    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    hangs: int = 0
    #: bytes that the child held after each file
    memory: list[int] = field(default_factory=list)
    peak: int = 0
    #: seconds that the slowest file took
    slowest: float = 0.0
    odd: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Bytes that the child held at the end, more than after the first quarter; medians of tenths."""
        tenth = max(1, len(self.memory) // 10)
        quarter = len(self.memory) // 4
        early, late = sorted(self.memory[quarter : quarter + tenth]), sorted(self.memory[-tenth:])
        return late[len(late) // 2] - early[len(early) // 2]

    def line(self) -> str:
        """One line to report."""
        failed = {code: count for code, count in self.outcomes.most_common() if code != "tagged"}
        codes = ", ".join(f"{code} {count}" for code, count in failed.items())
        files = self.outcomes.total() + self.crashes + self.hangs
        return (
            f"{files} files: {self.outcomes['tagged']} tagged, {sum(failed.values())} failed ({codes}), "
            f"{self.crashes} crashes, {self.hangs} hangs, {len(self.odd) - self.crashes - self.hangs} other errors, "
            f"slowest {self.slowest:.1f} s, "
            f"peak memory {self.peak / 2**20:.0f} MiB, growth {self.growth / 2**20:.1f} MiB"
        )


class Child:
    """The process that decodes; started again after a crash or a hang."""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(_TESTS.parent), str(_TESTS)])
        # what the decoders' C libraries say on stderr is not a finding
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": paths},
        )

    def ask(self, data: bytes) -> dict[str, object] | None:
        """Return the child's answer, or None if it died. Raises TimeoutError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(struct.pack(">I", len(data)) + data)
            stdin.flush()
        except BrokenPipeError:
            return None
        ready, _, _ = select.select([stdout], [], [], DEADLINE)
        if not ready:
            raise TimeoutError
        line = stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()


def fuzz(files: Iterable[bytes], count: int, step: Callable[[Findings], object] = lambda findings: None) -> Findings:
    """Decode the first `count` files; `step` is told of every thousandth."""
    findings = Findings()
    child = Child()
    try:
        for number, data in enumerate(itertools.islice(files, count), 1):
            if not _judge(findings, child, data):
                child.close()
                child = Child()
            if number % 1000 == 0:
                step(findings)
    finally:
        child.close()
    return findings


def _judge(findings: Findings, child: Child, data: bytes) -> bool:
    """Count one file's outcome. Return whether the child can go on."""
    start = time.monotonic()
    try:
        answer = child.ask(data)
    except TimeoutError:
        findings.hangs += 1
        findings.odd.append(("hang", data))
        return False
    if answer is None:
        findings.crashes += 1
        findings.odd.append(("crash", data))
        return False
    findings.slowest = max(findings.slowest, time.monotonic() - start)
    outcome = str(answer["outcome"])
    findings.outcomes[outcome.partition(":")[0]] += 1
    if outcome.startswith("error"):
        findings.odd.append((outcome, data))
    findings.memory.append(int(str(answer["memory"])))
    findings.peak = max(findings.peak, int(str(answer["peak"])))
    return True
