"""Recognize local files that were hashed before, so that a second run need not read them.

A file is unchanged while its path, size, inode, and the times of the last change of its content (mtime) and of anything
(ctime) are the same. No program can set ctime, so neither a copy with old times nor `touch` deceives it. A file that
changed less than `RACY_SECONDS` before it was hashed is not remembered: a further change within the same tick of the
file system's clock would go unseen (git calls such index entries racy).
"""

import hashlib
import os

#: least seconds between a file's last change and its hashing for it to be remembered
RACY_SECONDS = 2.0


def identity_of(path: str, status: os.stat_result) -> str:
    """Return a hash of all that tells a file from a changed one, as hex."""
    facts = f"{path}\0{status.st_size}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()


def is_racy(status: os.stat_result, hashed: float) -> bool:
    """Return whether a file changed too shortly before it was hashed, at `hashed` or later in Unix seconds."""
    return max(status.st_mtime, status.st_ctime) > hashed - RACY_SECONDS
