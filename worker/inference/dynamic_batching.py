"""Dynamic batching: join the inference calls of several batches, so that small messages still make large calls."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from tagmill.images.image import Pixels
from tagmill.outcomes import ErrorCode
from tagmill.tasks.base import Prediction
from worker.inference.error_codes import error_code_of
from worker.spending import Account, SharedClock, current_account


@dataclass(eq=False)
class _Request:
    """The images of one caller, and their result."""

    images: Pixels
    answer: Prediction | Exception | None = None
    #: a shared call failed: run this request alone to find out whether its images are at fault
    alone: bool = False
    #: what the caller's batch takes is added to it
    account: Account | None = field(default_factory=current_account)


class DynamicBatcher:
    """Runs at most `parallel` calls at a time; requests that wait meanwhile share the next call.

    There is no delay: a call starts as soon as one may, with the requests that are waiting. This is the adaptive
    batching of serving systems (Clipper, arXiv 1612.03079, section 4.3) without its delay, because whole batches arrive
    here.
    """

    def __init__(
        self, run: Callable[[Pixels], Prediction], parallel: int, gpu_clock: SharedClock | None = None
    ) -> None:
        """`run` infers uint8 [N, H, W, 3]. With `gpu_clock`, the time of calls is that of a GPU."""
        self._run = run
        self._parallel = parallel
        self._gpu_clock = gpu_clock
        self._waiting: deque[_Request] = deque()
        self._active = 0
        #: most images of a shared call, once a larger one ran out of memory
        self._largest = sys.maxsize
        self._changed = threading.Condition()

    def run(self, images: Pixels, largest: int) -> Prediction:
        """Infer uint8 [N, H, W, 3], alone or in a call of at most `largest` images that is shared with others.

        Raise what the model raises for these images.
        """
        own = _Request(images)
        with self._changed:
            self._waiting.append(own)
            while own.answer is None:
                if self._waiting and self._active < self._parallel:
                    self._run_requests(self._next_requests(largest))
                else:
                    self._changed.wait()
        if isinstance(own.answer, Exception):
            raise own.answer
        return own.answer

    def _next_requests(self, largest: int) -> list[_Request]:
        taken = [self._waiting.popleft()]
        images, largest = len(taken[0].images), 0 if taken[0].alone else min(largest, self._largest)
        while self._waiting and not self._waiting[0].alone and images + len(self._waiting[0].images) <= largest:
            taken.append(self._waiting.popleft())
            images += len(taken[-1].images)
        return taken

    def _run_requests(self, taken: list[_Request]) -> None:
        """Make one call for these requests. The lock is released during the call."""
        self._active += 1
        self._changed.release()
        answers: Sequence[Prediction | Exception | None] = [None] * len(taken)
        try:
            with self._counted(taken):
                answers = self._call([request.images for request in taken])
        finally:
            self._changed.acquire()
            self._active -= 1
            for request, answer in zip(taken, answers, strict=True):
                request.answer, request.alone = answer, answer is None
            self._waiting.extendleft(request for request in reversed(taken) if request.alone)
            self._changed.notify_all()

    def _counted(self, taken: Sequence[_Request]) -> AbstractContextManager[None]:
        """Split the GPU's time in the block among these requests, by their images."""
        if self._gpu_clock is None:
            return nullcontext()
        images = sum(len(request.images) for request in taken)

        def take(seconds: float) -> None:
            for request in taken:
                if request.account is not None:
                    request.account.add_gpu(seconds * len(request.images) / images)

        return self._gpu_clock.used(take)

    def _call(self, parts: list[Pixels]) -> Sequence[Prediction | Exception | None]:
        """Return the result of each part; None for each part of a shared call that failed."""
        try:
            if len(parts) == 1:
                return [self._run(parts[0])]
            return _split(self._run(np.concatenate(parts)), [len(part) for part in parts])
        except Exception as error:  # onnxruntime's exceptions have no common base
            if len(parts) == 1:
                return [error]
            if error_code_of(error) is ErrorCode.OUT_OF_MEMORY:
                self._largest = sum(map(len, parts)) // 2
            return [None] * len(parts)


def _split(whole: Prediction, sizes: Sequence[int]) -> list[Prediction]:
    ends = list(accumulate(sizes))
    return [whole.at(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
