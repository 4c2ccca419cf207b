"""Which kind of file system a path is on."""

import os
import re
from pathlib import Path

#: kinds that several machines share, by the names that Linux and FUSE give them
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "gcsfuse", "rclone", "juicefs", "ceph")}
)


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the kind of the file system that a path is on, as Linux names it; empty elsewhere."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real, best, kind = Path(os.path.realpath(path)), -1, ""
    for line in lines:
        mounted, _, system = line.partition(" - ")
        # A space in a name is written as \040.
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted.split(" ")[4]))
        if real.is_relative_to(point) and len(point.parts) >= best:  # the last one hides those before it
            best, kind = len(point.parts), system.split(" ")[0]
    return kind
