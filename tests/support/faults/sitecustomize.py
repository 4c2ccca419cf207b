"""Faults for processes that a test starts with this folder on PYTHONPATH, in place of a bug in a library.

Python imports this module at its start. A worker hashes the bytes of each image. An image with one of these marks in
its bytes kills, blocks or freezes the process that reads it, or fills its memory.
"""

import hashlib
import os
import re
import signal
import time

KILLS = b"tagmill-test-kills"
STICKS = b"tagmill-test-sticks"
FILLS = b"tagmill-test-fills"
FREEZES = b"tagmill-test-freezes"

_sha256 = hashlib.sha256
_held: list[bytes] = []


def sha256(data: bytes = b"", **options: bool) -> "hashlib._Hash":
    """Hash the bytes, or do what the mark in them says."""
    if isinstance(data, bytes):
        if KILLS in data:
            os.kill(os.getpid(), signal.SIGKILL)
        if STICKS in data:
            time.sleep(3600)
        if FREEZES in data:
            re.match(r"(a+)+$", "a" * 64 + "b")  # runs for ages and holds the GIL
        if FILLS in data:
            _held.append(b"x" * 400 * 2**20)
            time.sleep(3)
    return _sha256(data, **options)


if __name__ == "sitecustomize":  # not when a test imports the marks
    hashlib.sha256 = sha256
