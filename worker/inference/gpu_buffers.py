"""CallTracker of one fixed batch shape, with buffers that stay on the GPU.

https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html: with what is bound nothing is allocated in a
call, and a CUDA graph (`enable_cuda_graph`) may be recorded, which holds addresses. All outputs are bound, whatever is
asked for: a graph writes to all of them, and only what is asked for is fetched.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundles.spec import INPUT
from tagmill.outcomes import ErrorCode
from worker.devices.pinned_memory import PinnedBuffer, pinned_buffer
from worker.inference.error_codes import error_code_of

log = logging.getLogger(__name__)

_Made = TypeVar("_Made")

#: the outputs that a bundle may have
_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
#: calls after which a session sets nothing more aside: the second plans its memory, the third may record a CUDA graph
_WARMING = 3


class ShapedCalls:
    """A session's calls, each filled up to the same batch. One thread makes it and calls it."""

    def __init__(self, session: ort.InferenceSession, batch: int, index: int, place: str = "cuda") -> None:
        """Make the buffers and call it. `place` is where they lie: cuda, or cpu in a test.

        Raises what ONNX Runtime raises, which `worker.inference.error_codes` tells lack of memory from all else by.
        """
        #: images of each call
        self.batch = batch
        self._session = session
        self._place = (place, index)
        shape = (batch, *(int(size) for size in session.get_inputs()[0].shape[1:]))
        self._room = pinned_buffer(index, shape) if place == "cuda" else PinnedBuffer(np.zeros(shape, np.uint8))
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, *self._place)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._input)
        for output in session.get_outputs():
            self._bind(output)
        self._names = [output.name for output in session.get_outputs()]
        black = np.zeros(shape, np.uint8)
        for _ in range(_WARMING):
            self._call([], black, ort.RunOptions())

    def run(self, names: list[str], images: NDArray[np.uint8], options: ort.RunOptions) -> list[NDArray[Any]]:
        """Return the outputs `names` for uint8 [N, height, width, 3], of any N."""
        starts = range(0, len(images), self.batch)
        parts = [self._call(names, images[start : start + self.batch], options) for start in starts]
        return parts[0] if len(parts) == 1 else [np.concatenate(found) for found in zip(*parts, strict=True)]

    def _call(self, names: list[str], images: NDArray[np.uint8], options: ort.RunOptions) -> list[NDArray[Any]]:
        self._input.update_inplace(self._filled(images))
        self._session.run_with_iobinding(self._binding, options)
        found = dict(zip(self._names, self._binding.get_outputs(), strict=True))
        # On the CPU these are the buffers themselves, which the next call writes to.
        return [found[name].numpy()[: len(images)].copy() for name in names]

    def _filled(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a whole batch that begins with `images`; the rest is black, as in the calls that warmed the session.

        An image of an earlier call, on which the graph may have failed, must not be among them.
        """
        if len(images) == self.batch and not self._room.pinned:
            return np.ascontiguousarray(images)
        self._room.pixels[: len(images)] = images
        self._room.pixels[len(images) :] = 0
        return self._room.pixels

    def _bind(self, output: Any) -> None:
        sizes, dtype = output.shape[1:], _DTYPES.get(output.type)
        if dtype is None or not all(isinstance(size, int) for size in sizes):
            self._binding.bind_output(output.name, *self._place)
            return
        value = ort.OrtValue.ortvalue_from_shape_and_type((self.batch, *sizes), dtype, *self._place)
        self._binding.bind_ortvalue_output(output.name, value)


def fitting(make: Callable[[int], _Made], batch: int) -> _Made:
    """Return what `make` makes of the largest batch that there is memory for: `batch`, half of it, and so on.

    Raises what `make` raises where the reason is another, or not even one image fits.
    """
    while True:
        try:
            return make(batch)
        except Exception as error:  # onnxruntime raises a family of its own without a common base
            if batch == 1 or error_code_of(error) is not ErrorCode.OUT_OF_MEMORY:
                raise
        # Out here the error is gone, and with it the session that it kept on the GPU.
        log.warning("a batch does not fit the GPU", extra={"action": "batch_halved", "images": batch})
        batch //= 2
