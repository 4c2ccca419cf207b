"""The run-length encoding of Label Studio's brush, which is not COCO's.

It packs a stream of bits: the number of values, 4 for each pixel, row by row (32 bits); the size of a value less one
(5 bits); the four sizes that a length may have, each less one (4 bits each). Then, for each run: a 1, which of the
sizes (2 bits), its length less one, and the value, 0 or 255. Source: `decode_rle` of Label
Studio's SDK.
"""

import numpy as np
from numpy.typing import NDArray

#: bits of a length, from the shortest
_SIZES = np.array([3, 4, 8, 16])
_LONGEST = 2**16
#: values of a pixel: red, green, blue and opacity, of which Label Studio reads the last
_CHANNELS = 4
_VALUE_BITS = 8


def encode_brush(starts: NDArray[np.int64], ends: NDArray[np.int64], pixels: int) -> list[int]:
    """Return the bytes for an image whose runs of set pixels, by row, start and end at these positions."""
    bounds = np.zeros(2 * len(starts) + 2, dtype=np.int64)
    bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = starts, ends, pixels
    lengths = np.diff(bounds) * _CHANNELS
    values = np.zeros(len(lengths), dtype=np.int64)
    values[1::2] = 255
    pieces = -(-lengths // _LONGEST)  # 0 for a run of no length
    values = values.repeat(pieces)
    last = np.cumsum(pieces)[pieces > 0] - 1
    split = np.full(int(pieces.sum()), _LONGEST, dtype=np.int64)
    split[last] = (lengths - (pieces - 1) * _LONGEST)[pieces > 0]
    return _pack(_header(pixels * _CHANNELS), split - 1, values)


def _header(count: int) -> list[int]:
    bits = f"{count:032b}{_VALUE_BITS - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES.tolist())
    return [int(bit) for bit in bits]


def _pack(header: list[int], lengths: NDArray[np.int64], values: NDArray[np.int64]) -> list[int]:
    """Return the bytes of the runs behind the header; `lengths` are less one."""
    which = np.searchsorted(2**_SIZES, lengths, side="right")
    sizes = _SIZES[which]
    codes = (((4 + which) << sizes | lengths) << _VALUE_BITS) | values
    used = 3 + sizes + _VALUE_BITS
    at = np.arange(int(used.max(initial=0)))
    bits = codes[:, None] >> np.maximum(used[:, None] - 1 - at, 0) & 1
    stream = np.concatenate([np.array(header), bits[at < used[:, None]]]).astype(np.uint8)
    found: list[int] = np.packbits(stream).tolist()
    return found
