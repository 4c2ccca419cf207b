"""The entry point of `tagmill`, and its handling of Ctrl-C."""

import gc
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

#: Seconds within which a second SIGINT belongs to the same Ctrl-C: `timeout` and some shells send it twice.
SAME_PRESS_SECONDS = 1.0
#: Seconds after which a Ctrl-C that a library swallowed comes again. One that ends the command has ended it by then.
AGAIN_SECONDS = 0.5
#: tagmill.errors.ExitCode.INTERRUPTED, repeated here because Ctrl-C may come before that is imported
_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command and exit with its code. Ctrl-C prints one line, even during the imports."""
    # A Python process that a library starts, such as one of joblib, must not import from the working directory.
    os.environ["PYTHONSAFEPATH"] = "1"
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not default: a background job ignores SIGINT
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGALRM, _interrupt_again)
    try:
        # What imports create stays: to search it for garbage takes a fifth of a short command. `LazyGroup` enables it.
        gc.disable()
        # Imported here so that Ctrl-C is handled: the import takes most of the time of a short command.
        from tagmill.cli.exit import run_command

        code = run_command()
    except KeyboardInterrupt:
        _print_error("interrupted; it is safe to run the command again")
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        os._exit(code)  # threads may still run a model, and a normal exit of Python sometimes aborts then
    sys.exit(code)


class _CtrlC(KeyboardInterrupt):
    """A Ctrl-C that comes again if it did not end the command.

    Code in C may clear an error of what it calls, also one that a signal raised: `Generator.choice` of numpy does.
    """

    def __init__(self) -> None:
        self._process = os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._process:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _interrupt_again(number: int, frame: FrameType | None) -> None:
    raise _CtrlC


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let the command end cleanly. A second Ctrl-C ends the process at once."""
    first_press = time.monotonic()

    def end_at_once(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - first_press > SAME_PRESS_SECONDS:
            _print_error("interrupted again; ended at once")
            os._exit(_INTERRUPTED)

    signal.signal(signal.SIGINT, end_at_once)
    raise _CtrlC


def _print_error(line: str) -> None:
    with suppress(OSError, RuntimeError):  # stderr is closed, or Ctrl-C interrupted another write
        if sys.stderr is not None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
