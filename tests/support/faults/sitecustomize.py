"""Faults for processes that a test starts with this folder on PYTHONPATH: what takes a bug in a library otherwise.

Python imports this module at its start. A worker hashes the bytes of each image; images with one of these marks in
their bytes then end, stick, freeze or fill the process that reads them.
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
    if isinstance(data, bytes):
        if KILLS in data:
            os.kill(os.getpid(), signal.SIGKILL)
        if STICKS in data:
            time.sleep(3600)
        if FREEZES in data:
            re.match(r"(a+)+$", "a" * 64 + "b")  # takes ages, and Python's lock with it
        if FILLS in data:
            _held.append(b"x" * 400 * 2**20)
            time.sleep(3)
    return _sha256(data, **options)


if __name__ == "sitecustomize":  # not where a test imports the marks
    hashlib.sha256 = sha256
