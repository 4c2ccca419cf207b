"""`tests/faults`, and slow images: work that lasts long enough to be disturbed, on a fast machine and a busy one."""

import hashlib
import os
import time

from support.faults.sitecustomize import sha256 as faulty_sha256

#: seconds that each image takes more
SECONDS = "CHAOS_SECONDS_A_PICTURE"


def sha256(data: bytes = b"", **options: bool) -> "hashlib._Hash":
    """Hash as `tests/faults` does, JPEGs after a while; a worker hashes each image it reads."""
    if isinstance(data, bytes) and data.startswith(b"\xff\xd8"):
        time.sleep(float(os.environ[SECONDS]))
    return faulty_sha256(data, **options)


if __name__ == "sitecustomize":  # not where the cluster imports the name
    hashlib.sha256 = sha256  # type: ignore[assignment]  # takes what the product gives it
