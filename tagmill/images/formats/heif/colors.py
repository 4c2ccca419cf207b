"""The colors of AVIF and HEIC: an ICC profile, or code points (nclx), for which a profile is made.

Code points are those of ITU-T H.273, as in a video.
"""

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tagmill.images.formats.heif.boxes import Fields
from tagmill.images.formats.heif.items import Property
from tagmill.outcomes import ErrorCode, ImageFailure

#: transfer functions of high dynamic range
_HDR = {16: "PQ", 18: "HLG"}
_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
#: chromaticities of red, green, blue and white; 1 is sRGB
_PRIMARIES = {
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
_SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
#: exponents of transfer functions that are powers; the others count as sRGB's, as in browsers
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
#: white of ICC's connection space, and the matrix of Bradford's adaptation to it
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024


def profile(colors: list[Property]) -> bytes | None:
    """Return, of boxes colr, the ICC profile, one made from code points, or None for sRGB and for unknown colors.

    Raises ImageFailure for a high dynamic range.
    """
    found = {bytes(entry.body[:4]): entry.body for entry in reversed(colors)}
    points = found.get(b"nclx")
    primaries, transfer = Fields(points, skip=4).uints(2, 2) if points else (2, 2)
    if transfer in _HDR:
        raise ImageFailure(ErrorCode.UNSUPPORTED_FORMAT, f"high dynamic range ({_HDR[transfer]}) is not read")
    icc = found.get(b"prof") or found.get(b"rICC")
    if icc:
        return bytes(icc[4:])
    if primaries not in _PRIMARIES and transfer not in _EXPONENTS:
        return None
    return _made_profile(primaries, transfer)


@lru_cache(maxsize=64)
def _made_profile(primaries: int, transfer: int) -> bytes:
    """Return an ICC version 2 profile of three primaries and one curve (ICC.1:2001-04, section 6.3.1.1)."""
    colorants = _colorants(*_PRIMARIES.get(primaries, _SRGB_PRIMARIES))
    tags = {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(transfer))
    tags |= {b"wtpt": _xyz(_D50)}
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", place + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    rest = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(">I4sI4s4s4s", 128 + len(rest), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", *_fixed(_D50))
    return head.ljust(128, b"\0") + rest


def _colorants(*points: tuple[float, float]) -> NDArray[np.float64]:
    """Return XYZ of red, green and blue as columns, adapted to D50."""
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in points]).T
    white = xyz[:, 3]
    scaled = xyz[:, :3] * np.linalg.solve(xyz[:, :3], white)
    gain = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    return np.asarray(np.linalg.solve(_BRADFORD, gain @ _BRADFORD @ scaled))


def _curve(transfer: int) -> bytes:
    encoded = np.linspace(0, 1, _CURVE_POINTS)
    if transfer in _EXPONENTS:
        linear = encoded ** _EXPONENTS[transfer]
    else:
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    points = np.round(linear * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(points)) + points.tobytes()


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *_fixed(values))


def _fixed(values: NDArray[np.float64]) -> list[int]:
    return [round(float(value) * 65536) for value in values]
