"""Standard output that ends the command as it should where it takes no more: a pipe that was closed, a full disk."""

import io
import os
import sys
from typing import Any

from tagmill.errors import ExitCode, OutputError


class _Descriptor(io.FileIO):
    """Only here an error of standard output can be told from one of another file or of a socket."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # Python flushes once more when it ends: what is left goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise SystemExit(int(ExitCode.DONE)) from None  # `| head` has seen enough
            raise OutputError(f"standard output: {error.strerror}; write to another place") from error


def guard_output() -> None:
    """Put a guarded stream in the place of sys.stdout. What its encoding lacks is written as \\xNN, never an error.

    A pipe that was closed ends the command with exit code 0; OutputError is raised where the disk is full.
    """
    plain = sys.stdout
    if not isinstance(plain, io.TextIOWrapper):
        return  # closed: then it is None, and click and rich write nothing
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(plain.fileno(), "wb", closefd=False)),
        encoding=plain.encoding,
        errors="backslashreplace",
        line_buffering=plain.line_buffering,
        write_through=plain.write_through,
    )
