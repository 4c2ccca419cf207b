"""Inference calls of several batches made one: the shape that the hardware likes, whatever the size of a message."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from tagmill.outcomes import ErrorCode
from tagmill.tasks.base import Prediction
from worker.inference.error_codes import error_code_of

Pixels = NDArray[np.uint8]


@dataclass(eq=False)
class _Asked:
    """The images of one caller, and what became of them."""

    images: Pixels
    answer: Prediction | Exception | None = None
    #: a call shared with others failed: whose images it was is found out one by one
    alone: bool = False


class DynamicBatcher:
    """Runs at most `parallel` calls at a time; callers that wait meanwhile go together in the next one.

    Nobody waits for company: a call starts as soon as one may, with whoever is there. It is the adaptive batching of
    serving systems (Clipper, arXiv 1612.03079, section 4.3) without its delay, since whole batches arrive here.
    """

    def __init__(self, run: Callable[[Pixels], Prediction], parallel: int) -> None:
        """`run` infers uint8 [N, H, W, 3]."""
        self._run = run
        self._parallel = parallel
        self._waiting: deque[_Asked] = deque()
        self._active = 0
        #: images of a shared call, once a larger one ran out of memory
        self._largest = sys.maxsize
        self._turn = threading.Condition()

    def run(self, images: Pixels, largest: int) -> Prediction:
        """Infer uint8 [N, H, W, 3], alone or together with others in a call of at most `largest` images.

        Raises what the model raises for these images.
        """
        mine = _Asked(images)
        with self._turn:
            self._waiting.append(mine)
            while mine.answer is None:
                if self._waiting and self._active < self._parallel:
                    self._lead(self._next(largest))
                else:
                    self._turn.wait()
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return mine.answer

    def _next(self, largest: int) -> list[_Asked]:
        taken = [self._waiting.popleft()]
        images, largest = len(taken[0].images), 0 if taken[0].alone else min(largest, self._largest)
        while self._waiting and not self._waiting[0].alone and images + len(self._waiting[0].images) <= largest:
            taken.append(self._waiting.popleft())
            images += len(taken[-1].images)
        return taken

    def _lead(self, taken: list[_Asked]) -> None:
        """Make one call for all of these; the lock is given up meanwhile."""
        self._active += 1
        self._turn.release()
        answers: Sequence[Prediction | Exception | None] = [None] * len(taken)
        try:
            answers = self._call([asked.images for asked in taken])
        finally:
            self._turn.acquire()
            self._active -= 1
            for asked, answer in zip(taken, answers, strict=True):
                asked.answer, asked.alone = answer, answer is None
            self._waiting.extendleft(asked for asked in reversed(taken) if asked.alone)
            self._turn.notify_all()

    def _call(self, parts: list[Pixels]) -> Sequence[Prediction | Exception | None]:
        try:
            if len(parts) == 1:
                return [self._run(parts[0])]
            return _split(self._run(np.concatenate(parts)), [len(part) for part in parts])
        except Exception as error:  # onnxruntime raises a family of its own without a common base
            if len(parts) == 1:
                return [error]
            if error_code_of(error) is ErrorCode.OUT_OF_MEMORY:
                self._largest = sum(map(len, parts)) // 2
            return [None] * len(parts)


def _split(whole: Prediction, sizes: Sequence[int]) -> list[Prediction]:
    ends = list(accumulate(sizes))
    return [whole.at(slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
