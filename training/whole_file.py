"""Write a file in one step, so that there is never half of one, however the process ends."""

from pathlib import Path

from tagmill.errors import ConfigurationError


def write_whole(path: Path, content: bytes) -> None:
    """Write the file, or leave the one that was there. Raises ConfigurationError where the disk does not take it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: {error.strerror}; make room, or name another folder with --out") from error
