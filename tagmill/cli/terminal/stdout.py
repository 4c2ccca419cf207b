"""Guard standard output: a closed pipe ends the command quietly, a full disk with an error."""

import io
import os
import sys
from typing import Any

from tagmill.errors import ExitCode, OutputError


class _GuardedFile(io.FileIO):
    """The descriptor of standard output. At this level its errors cannot be confused with those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # Python flushes again when it exits; discard that output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise SystemExit(int(ExitCode.DONE)) from None  # for example `| head`
            raise OutputError(f"standard output: {error.strerror}; write to another place") from error


def guard_stdout() -> None:
    """Replace sys.stdout by a guarded stream, which writes characters that its encoding lacks as escapes.

    A closed pipe ends the command with exit code 0. Writing to a full disk raises OutputError.
    """
    plain = sys.stdout
    if not isinstance(plain, io.TextIOWrapper):
        return  # closed, so sys.stdout is None, and click and rich write nothing
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_GuardedFile(plain.fileno(), "wb", closefd=False)),
        encoding=plain.encoding,
        errors="backslashreplace",
        line_buffering=plain.line_buffering,
        write_through=plain.write_through,
    )
