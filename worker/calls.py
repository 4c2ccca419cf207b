"""The inference calls that a session has in work, each of which can be cut off."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import onnxruntime as ort


class StalledCallError(Exception):
    """An inference call was cut off because it took too long."""


class Calls:
    """Start and options of each call in work. One instance serves all threads."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[ort.RunOptions, float]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[ort.RunOptions]:
        """Give the options of one call. Raises StalledCallError where it was cut off."""
        options = ort.RunOptions()
        with self._lock:
            self._running[id(options)] = (options, time.monotonic())
        try:
            yield options
        except Exception as error:  # onnxruntime raises a family of its own without a common base
            if options.terminate:
                raise StalledCallError("the model did not end in time") from error
            raise
        finally:
            with self._lock:
                del self._running[id(options)]

    def cut(self, seconds: float) -> int:
        """Ask the calls that run longer than `seconds` to end; return how many were asked now.

        ONNX Runtime looks at it between two nodes of the graph.
        """
        with self._lock:
            late = [options for options, since in self._running.values() if time.monotonic() - since > seconds]
        asked = [options for options in late if not options.terminate]
        for options in asked:
            options.terminate = True
        return len(asked)

    def longest(self) -> float:
        """Return the seconds of the call that runs the longest; 0 where there is none."""
        with self._lock:
            return max((time.monotonic() - since for _, since in self._running.values()), default=0.0)
