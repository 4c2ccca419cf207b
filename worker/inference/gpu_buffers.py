"""Calls of one fixed batch shape, with input and output buffers that stay on the GPU.

https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html: with bound buffers a call allocates nothing,
and a CUDA graph (`enable_cuda_graph`), which stores addresses, can be recorded. All outputs are bound, because a graph
writes to all of them. Only the requested ones are copied from the GPU.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundles.metadata import INPUT
from tagmill.outcomes import ErrorCode
from worker.devices.pinned_memory import PinnedBuffer, pinned_buffer
from worker.inference.error_codes import error_code_of

log = logging.getLogger(__name__)

_Made = TypeVar("_Made")

#: types of the outputs that a bundle may have
_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
#: calls after which a session allocates nothing more: the second plans its memory, the third may record a CUDA graph
_WARMUP_CALLS = 3


class ShapedCalls:
    """Makes the calls of a session, each padded to the same batch. One thread creates it and calls it."""

    def __init__(self, session: ort.InferenceSession, batch: int, index: int, place: str = "cuda") -> None:
        """Allocate the buffers and warm the session up. `place` is the memory of the buffers: cuda, or cpu in a test.

        Raise what ONNX Runtime raises; `worker.inference.error_codes` recognizes a lack of memory.
        """
        #: images of each call
        self.batch = batch
        self._session = session
        self._place = (place, index)
        shape = (batch, *(int(size) for size in session.get_inputs()[0].shape[1:]))
        self._staging = pinned_buffer(index, shape) if place == "cuda" else PinnedBuffer(np.zeros(shape, np.uint8))
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *self._place)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._input)
        for output in session.get_outputs():
            self._bind(output)
        self._names = [output.name for output in session.get_outputs()]
        black = np.zeros(shape, np.uint8)
        for _ in range(_WARMUP_CALLS):
            self._call([], black, ort.RunOptions())

    def run(self, names: list[str], images: NDArray[np.uint8], options: ort.RunOptions) -> list[NDArray[Any]]:
        """Return the outputs `names` for uint8 [N, height, width, 3], of any N."""
        starts = range(0, len(images), self.batch)
        parts = [self._call(names, images[start : start + self.batch], options) for start in starts]
        return parts[0] if len(parts) == 1 else [np.concatenate(found) for found in zip(*parts, strict=True)]

    def _call(self, names: list[str], images: NDArray[np.uint8], options: ort.RunOptions) -> list[NDArray[Any]]:
        self._input.update_inplace(self._padded(images))
        self._session.run_with_iobinding(self._binding, options)
        found = dict(zip(self._names, self._binding.get_outputs(), strict=True))
        # On the CPU these are the buffers themselves, which the next call writes to.
        return [found[name].numpy()[: len(images)].copy() for name in names]

    def _padded(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a whole batch that begins with `images`. The rest is black, as in the warm-up calls.

        The rest must not be images of an earlier call: the graph may fail on one of them.
        """
        if len(images) == self.batch and not self._staging.pinned:
            return np.ascontiguousarray(images)
        self._staging.pixels[: len(images)] = images
        self._staging.pixels[len(images) :] = 0
        return self._staging.pixels

    def _bind(self, output: Any) -> None:
        sizes, dtype = output.shape[1:], _DTYPES.get(output.type)
        if dtype is None or not all(isinstance(size, int) for size in sizes):
            self._binding.bind_output(output.name, *self._place)
            return
        value = ort.OrtValue.ortvalue_from_shape_and_type((self.batch, *sizes), dtype, *self._place)
        self._binding.bind_ortvalue_output(output.name, value)


def largest_fitting(make: Callable[[int], _Made], batch: int) -> _Made:
    """Return `make(batch)` for the largest batch that fits in memory, halving it on each failure.

    Raise what `make` raises for any other reason, or if not even one image fits.
    """
    while True:
        try:
            return make(batch)
        except Exception as error:  # onnxruntime's exceptions have no common base
            if batch == 1 or error_code_of(error) is not ErrorCode.OUT_OF_MEMORY:
                raise
        # Outside the handler the error is freed, and with it the session that it kept on the GPU.
        log.warning("a batch does not fit on the GPU", extra={"action": "batch_halved", "images": batch})
        batch //= 2
