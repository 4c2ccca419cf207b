"""The samples of a TIFF: from the bytes of its planes to pixels of 8 bits."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmill.images.formats.tiff.directory import Directory
from tagmill.images.formats.tiff.layout import FAX, JPEG, Layout, Photometric
from tagmill.images.image import Pixels
from tagmill.outcomes import ErrorCode, ImageFailure

#: bytes of the rows that are converted at a time, so that memory grows with neither depth nor samples
_BAND = 1 << 20
_COLOR_MAP = 320
#: channels of the pixels; of gray, 1
_CHANNELS = {Photometric.RGB: 3, Photometric.PALETTE: 3, Photometric.CMYK: 4}
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
#: values of any depth that is converted
Samples = NDArray[np.unsignedinteger]


def to_image(planes: list[Image.Image], layout: Layout, directory: Directory) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors in mode L, RGB or CMYK, and alpha in mode L or None; empty `planes`.

    Colors are not multiplied by alpha.
    """
    inverted = layout.photometric is Photometric.WHITE_IS_ZERO
    if layout.compression == JPEG or layout.compression in FAX:
        image = planes[0].convert("L") if planes[0].mode == "1" else planes[0]
        return (image.point(lambda level: 255 - level) if inverted else image), None
    palette = _palette(directory, layout.bits) if layout.photometric is Photometric.PALETTE else None
    channels = _CHANNELS.get(layout.photometric, 1)
    pixels = np.empty((layout.height, layout.width, channels), dtype=np.uint8)
    alpha = None if layout.alpha is None else np.empty((layout.height, layout.width), dtype=np.uint8)
    rows = max(1, _BAND // (layout.row_bytes * layout.planes))
    for top in range(0, layout.height, rows):
        bottom = min(layout.height, top + rows)
        band = [np.asarray(plane.crop((0, top, layout.row_bytes, bottom))) for plane in planes]
        samples = _samples(band, layout)
        scaled = _scaled(samples, layout.bits)
        colors = scaled[:, :, :channels] if palette is None else palette[samples[:, :, 0]]
        if alpha is not None:
            alpha[top:bottom] = scaled[:, :, layout.alpha]
            if layout.associated and palette is None:
                colors = _divided(colors, alpha[top:bottom])
        pixels[top:bottom] = colors
    planes.clear()  # they take up to 8 bytes of a pixel
    if inverted:
        np.invert(pixels, out=pixels)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, _MODES[channels])
    return image, None if alpha is None else Image.fromarray(alpha)


def _samples(band: list[Pixels], layout: Layout) -> Samples:
    """Return the samples of rows, [rows, width, samples]: of 16 bits, or scaled down to 8, or as stored if fewer."""
    each = layout.samples // len(band)
    shape = len(band[0]), layout.width, each
    planes = [_unpacked(raw, layout, layout.width * each).reshape(shape) for raw in band]
    if layout.predictor:
        step = layout.tile[0] if layout.tile else layout.width
        for values in planes:
            for left in range(0, layout.width, step):
                part = values[:, left : left + step]
                np.add.accumulate(part, axis=1, dtype=part.dtype, out=part)
    values = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    return (values >> 8).astype(np.uint8) if layout.bits == 16 else values


def _unpacked(raw: Pixels, layout: Layout, count: int) -> Samples:
    """Return `count` samples of each row; of 9 to 15 bits the upper 8."""
    if layout.bits == 8:
        return raw.copy() if layout.predictor else raw
    if layout.bits == 16:
        return np.ascontiguousarray(raw).view(f"{layout.order}u2").astype(np.uint16)
    bits = np.unpackbits(raw, axis=1)[:, : count * layout.bits].reshape(len(raw), count, layout.bits)
    upper = np.packbits(bits[:, :, :8], axis=2)[:, :, 0]
    return upper >> np.uint8(max(0, 8 - layout.bits))


def _scaled(samples: Samples, bits: int) -> Samples:
    """Return samples of fewer than 8 bits in 8."""
    if bits >= 8:
        return samples
    most = (1 << bits) - 1
    return ((samples.astype(np.uint16) * 255 + most // 2) // most).astype(np.uint8)


def _divided(colors: Samples, alpha: Pixels) -> Samples:
    """Return colors that were multiplied by alpha as they were before."""
    divisor = np.maximum(alpha, 1)[:, :, None].astype(np.uint32)
    return np.asarray(np.minimum((colors * np.uint32(255) + divisor // 2) // divisor, 255), dtype=np.uint8)


def _palette(directory: Directory, bits: int) -> Pixels:
    """Return the colors, [2**bits, 3]: all reds come first, then the greens, then the blues, in 16 bits."""
    values = np.array(directory.numbers(_COLOR_MAP), dtype=np.uint64)
    if len(values) < 3 << bits:
        raise ImageFailure(ErrorCode.CORRUPT, f"the TIFF has {len(values)} of {3 << bits} palette values")
    colors = values[: 3 << bits].reshape(3, -1).T
    # Some writers store 8 bits; libtiff takes a palette without any larger value for one of those.
    return (colors if colors.max() < 256 else colors >> 8).astype(np.uint8)
