"""Feed damaged images to a child process that decodes them, and count the outcomes."""

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

#: seconds for one file; the slowest took 6 on a busy machine
DEADLINE = 30.0
_TESTS = Path(__file__).parents[1]


@dataclass
class Findings:
    """The outcomes of the files. `unexpected` holds those that gave neither pixels nor an error code."""

    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    hangs: int = 0
    #: resident bytes of the child after each file
    memory: list[int] = field(default_factory=list)
    peak: int = 0
    #: seconds of the slowest file
    slowest: float = 0.0
    unexpected: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Resident bytes at the end minus those after the first quarter; medians over a tenth of the files."""
        tenth = max(1, len(self.memory) // 10)
        quarter = len(self.memory) // 4
        early, late = sorted(self.memory[quarter : quarter + tenth]), sorted(self.memory[-tenth:])
        return late[len(late) // 2] - early[len(early) // 2]

    def line(self) -> str:
        """The report in one line."""
        failed = {code: count for code, count in self.outcomes.most_common() if code != "tagged"}
        codes = ", ".join(f"{code} {count}" for code, count in failed.items())
        files = self.outcomes.total() + self.crashes + self.hangs
        other_errors = len(self.unexpected) - self.crashes - self.hangs
        return (
            f"{files} files: {self.outcomes['tagged']} tagged, {sum(failed.values())} failed ({codes}), "
            f"{self.crashes} crashes, {self.hangs} hangs, {other_errors} other errors, "
            f"slowest {self.slowest:.1f} s, "
            f"peak memory {self.peak / 2**20:.0f} MiB, growth {self.growth / 2**20:.1f} MiB"
        )


class Child:
    """The process that decodes; replaced after a crash or a hang."""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(_TESTS.parent), str(_TESTS)])
        # messages of the decoders' C libraries on stderr are not findings
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
        """Kill the process."""
        self._process.kill()
        self._process.communicate()


def fuzz(files: Iterable[bytes], count: int, step: Callable[[Findings], object] = lambda findings: None) -> Findings:
    """Decode the first `count` files; `step` is called after every thousandth."""
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
    """Count the outcome of one file. Return whether the child can continue."""
    start = time.monotonic()
    try:
        answer = child.ask(data)
    except TimeoutError:
        findings.hangs += 1
        findings.unexpected.append(("hang", data))
        return False
    if answer is None:
        findings.crashes += 1
        findings.unexpected.append(("crash", data))
        return False
    findings.slowest = max(findings.slowest, time.monotonic() - start)
    outcome = str(answer["outcome"])
    findings.outcomes[outcome.partition(":")[0]] += 1
    if outcome.startswith("error"):
        findings.unexpected.append((outcome, data))
    findings.memory.append(int(str(answer["memory"])))
    findings.peak = max(findings.peak, int(str(answer["peak"])))
    return True
