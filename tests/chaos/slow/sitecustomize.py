"""The faults of `tests/support/faults`, and slow images: on any machine a run lasts long enough for faults."""

import hashlib
import os
import time

from support.faults.sitecustomize import sha256 as faulty_sha256

#: variable with the additional seconds per image
SECONDS = "CHAOS_SECONDS_PER_IMAGE"


def sha256(data: bytes = b"", **options: bool) -> "hashlib._Hash":
    """Hash as `tests/support/faults` does, JPEG images after a delay. A worker hashes each image that it reads."""
    if isinstance(data, bytes) and data.startswith(b"\xff\xd8"):
        time.sleep(float(os.environ[SECONDS]))
    return faulty_sha256(data, **options)


if __name__ == "sitecustomize":  # not when the cluster imports the name
    hashlib.sha256 = sha256  # type: ignore[assignment]  # takes the arguments that the worker gives
