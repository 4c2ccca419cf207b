"""The folders with images that workers may read."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from worker.doctor.finding import Finding, Subject, error, ok, warning
from worker.health.folders import ANSWER_SECONDS
from worker.health.time_limit import within


def check(subject: Subject) -> Iterator[Finding]:
    """Yield whether each folder of TAGMILL_ALLOWED_ROOTS can be read here."""
    roots = subject.settings.allowed_roots
    if not roots:
        yield ok("TAGMILL_ALLOWED_ROOTS is empty: workers read what each run names")
    for root in roots:
        try:
            yield within(ANSWER_SECONDS, partial(_state, root))
        except TimeoutError:
            yield error(f"{root}: does not answer", "mount it again")


def _state(root: Path) -> Finding:
    mount = "mount it at this path, or take it out of TAGMILL_ALLOWED_ROOTS"
    try:
        with os.scandir(root) as entries:
            filled = any(not entry.name.startswith(".") and entry.name != "lost+found" for entry in entries)
    except OSError as failure:
        return error(f"{root}: {failure.strerror or type(failure).__name__}", f"{mount}; this user must read it")
    if not root.is_absolute():
        return warning(f"{root}: is relative to the working directory", "give an absolute path")
    return ok(f"{root}: can be read") if filled else error(f"{root}: is empty", mount)
