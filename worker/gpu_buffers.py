"""Calls of a few fixed batch shapes, each with its own buffers on the card.

https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html: with what is bound nothing is allocated in a
call, and a CUDA graph (`enable_cuda_graph`) may be recorded, which holds addresses.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundle import INPUT
from worker.gpu import CUDA, CardOptions, pieces, warming_order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Input:
    """Where the pictures of one batch shape are put."""

    #: uint8 [shape, height, width, 3] on the host
    room: NDArray[np.uint8]
    #: the same memory, where it is pinned: the card then fetches it with no copy of the driver's in between
    pinned: ort.OrtValue | None
    #: on the card
    value: ort.OrtValue

    def fill(self, images: NDArray[np.uint8]) -> None:
        """Put N pictures onto the card. What is behind them are those of earlier calls, and nobody reads it."""
        if self.pinned is None and len(images) == len(self.room):
            self.value.update_inplace(images)
            return
        self.room[: len(images)] = images
        self.value.update_inplace(self.room if self.pinned is None else self.pinned)


@dataclass(frozen=True)
class _Bound:
    """The buffers of one batch shape for some of the outputs."""

    binding: ort.IOBinding
    #: distinguishes the CUDA graphs of a session
    number: int


class ShapedCalls:
    """A session's calls by batch shape. The caller sees to it that one thread calls at a time."""

    def __init__(self, session: ort.InferenceSession, index: int, card: CardOptions, place: str = "cuda") -> None:
        """Make every shape's buffers and call it once. `place` is where they lie: cuda, or cpu in a test.

        A shape for which there is no memory is left out; raises what ONNX Runtime raises at the smallest.
        """
        self._session = session
        self._place = (place, index)
        self._graphs = card.graphs
        self._sizes = tuple(int(size) for size in session.get_inputs()[0].shape[1:])
        self._outputs = {entry.name: entry for entry in session.get_outputs()}
        self._pinned_memory = pinned_memory(index) if place == "cuda" else None
        self._inputs: dict[int, _Input] = {}
        self._bound: dict[tuple[int, tuple[str, ...]], _Bound] = {}
        #: ascending
        self.shapes = card.shapes
        for shape in warming_order(card.shapes):
            self._warm(shape)

    def run(self, names: list[str], images: NDArray[np.uint8], options: ort.RunOptions) -> list[NDArray[Any]]:
        """Return the outputs `names` for uint8 [N, height, width, 3], of any N."""
        parts: list[list[NDArray[Any]]] = []
        start = 0
        for count, shape in pieces(len(images), self.shapes):
            parts.append(self._call(names, images[start : start + count], shape, options))
            start += count
        return [np.concatenate(found) for found in zip(*parts, strict=True)]

    def _warm(self, shape: int) -> None:
        try:
            self._call(list(self._outputs), np.zeros((shape, *self._sizes), np.uint8), shape, ort.RunOptions())
        except Exception:  # onnxruntime raises a family of its own without a common base
            if shape == min(self.shapes):
                raise
            self.shapes = tuple(kept for kept in self.shapes if kept != shape)
            self._inputs.pop(shape, None)
            self._bound = {key: bound for key, bound in self._bound.items() if key[0] != shape}
            log.warning("a batch shape does not fit the card", extra={"action": "shape_left_out", "images": shape})

    def _call(
        self, names: list[str], images: NDArray[np.uint8], shape: int, options: ort.RunOptions
    ) -> list[NDArray[Any]]:
        if shape not in self._inputs:
            self._inputs[shape] = self._new_input(shape)
        self._inputs[shape].fill(np.ascontiguousarray(images))
        key = (shape, tuple(names))
        if key not in self._bound:
            self._bound[key] = self._bind(shape, names)
        bound = self._bound[key]
        if self._graphs:
            options.add_run_config_entry("gpu_graph_id", str(bound.number))
        self._session.run_with_iobinding(bound.binding, options)
        return [found[: len(images)] for found in bound.binding.copy_outputs_to_cpu()]

    def _new_input(self, shape: int) -> _Input:
        sizes = (shape, *self._sizes)
        value = ort.OrtValue.ortvalue_from_shape_and_type(sizes, np.uint8, *self._place)
        if self._pinned_memory is None:
            return _Input(np.zeros(sizes, np.uint8), None, value)
        pinned = ort.OrtValue.ortvalue_from_shape_and_type(sizes, np.uint8, memory_info=self._pinned_memory)
        return _Input(pinned.numpy(), pinned, value)

    def _bind(self, shape: int, names: list[str]) -> _Bound:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, self._inputs[shape].value)
        for name in names:
            sizes, dtype = self._outputs[name].shape[1:], _DTYPES.get(self._outputs[name].type)
            if dtype is not None and all(isinstance(size, int) for size in sizes):
                value = ort.OrtValue.ortvalue_from_shape_and_type((shape, *sizes), dtype, *self._place)
                binding.bind_ortvalue_output(name, value)
            else:
                binding.bind_output(name, *self._place)
        return _Bound(binding, len(self._bound) + 1)


#: the outputs that a bundle may have
_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}


def pinned_memory(index: int) -> Any:
    """Return what describes the host memory that card `index` reads by itself, or None where it is not offered.

    ONNX Runtime's Python interface has it for devices that it lists itself (`get_ep_devices`), and for no others.
    """
    cards = [found for found in ort.get_ep_devices() if found.ep_name == CUDA]
    if index >= len(cards):
        return None
    return cards[index].memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
