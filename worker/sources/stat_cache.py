"""Recognize local files that were hashed before, so that a second run does not read them.

A file is unchanged while its path, size, inode, mtime (last change of its content) and ctime (last change of anything)
are the same. No program can set ctime, so neither a copy with old times nor `touch` goes unnoticed. A file that changed
less than `RACY_SECONDS` before it was hashed is not remembered: a further change within the same tick of the file
system's clock would go unnoticed (git calls such index entries racy).
"""

import hashlib
import os

#: least seconds between a file's last change and its hashing for it to be remembered
RACY_SECONDS = 2.0


def identity_of(path: str, status: os.stat_result) -> str:
    """Return a hash of everything that changes if the file changes, as hex."""
    facts = f"{path}\0{status.st_size}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()


def is_racy(status: os.stat_result, hashed: float) -> bool:
    """Return whether a file changed too shortly before it was hashed, at `hashed` or later in Unix seconds."""
    return max(status.st_mtime, status.st_ctime) > hashed - RACY_SECONDS
