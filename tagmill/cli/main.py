"""The `tagmill` command: where it begins, and how Ctrl-C ends it."""

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

#: seconds in which another SIGINT is the same Ctrl-C: `timeout` and some shells send it twice
ONE_PRESS = 1.0
#: tagmill.errors.ExitCode.INTERRUPTED: Ctrl-C may come before that can be imported
_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command and end with its exit code; on Ctrl-C with one line, from the first import on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, _interrupt)
    try:
        # Not above: this takes longer than anything else that a short command does.
        from tagmill.cli.exit import run_to_end

        code = run_to_end()
    except KeyboardInterrupt:
        _say("interrupted; it is safe to run the command again")
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        os._exit(code)  # threads may be at work in a model, and where Python ends under them it aborts now and then
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Have the command end in its own way. Ctrl-C once more ends the process, whatever that waits for."""
    pressed = time.monotonic()

    def again(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - pressed > ONE_PRESS:
            _say("interrupted again; ended at once")
            os._exit(_INTERRUPTED)

    signal.signal(signal.SIGINT, again)
    raise KeyboardInterrupt


def _say(line: str) -> None:
    with suppress(OSError, RuntimeError):  # nobody listens, or Ctrl-C came in the middle of another line
        if sys.stderr is not None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
