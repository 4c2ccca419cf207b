"""A writer of baseline JPEGs with any sampling factors: each block has one level (ITU-T T.81)."""

import struct

import numpy as np

#: components as horizontal and vertical sampling factor
Factors = tuple[tuple[int, int], ...]


def flat_blocks_jpeg(factors: Factors, units: tuple[int, int] = (3, 2), seed: int = 0, before: bytes = b"") -> bytes:
    """Return a JPEG of `units` MCUs across and down whose blocks have random levels; `before` follows its start."""
    random = np.random.default_rng(seed)
    wide, high = max(h for h, _ in factors), max(v for _, v in factors)
    size = struct.pack(">HH", 8 * high * units[1] - 3, 8 * wide * units[0] - 5)
    frame = b"\x08" + size + bytes([len(factors)])
    scan = bytes([len(factors)])
    for number, (h, v) in enumerate(factors, 1):
        frame += bytes([number, h << 4 | v, 0])
        scan += bytes([number, 0])
    bits, last = "", [0] * len(factors)
    for _ in range(units[0] * units[1]):
        for number, (h, v) in enumerate(factors):
            for _ in range(h * v):
                level = 8 * int(random.integers(-110, 110))
                bits += _difference(level - last[number]) + "0"  # all other coefficients are zero
                last[number] = level
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    # 12 categories of DC differences in codes of 4 bits, and the end of a block in a code of 1 bit
    tables = b"\0" + bytes([0, 0, 0, 12] + [0] * 12 + list(range(12))) + b"\x10" + bytes([1] + [0] * 15 + [0])
    quantization = b"\0" + bytes([1] * 64)
    parts = [(0xDB, quantization), (0xC0, frame), (0xC4, tables), (0xDA, scan + b"\0\x3f\0")]
    head = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in parts)
    return b"\xff\xd8" + before + head + coded + b"\xff\xd9"


def _difference(value: int) -> str:
    """Return the code of a DC difference: its category in 4 bits, and its bits."""
    category = abs(value).bit_length()
    if not category:
        return "0000"
    return f"{category:04b}{value if value > 0 else value + (1 << category) - 1:0{category}b}"
