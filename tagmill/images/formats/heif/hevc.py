"""HEVC (HEIC) with pillow-heif: libheif and libde265 decode each coded image alone; tiles and alpha are joined here.

libheif leaves tiles black that it can't decode. HEVC has no checksum, and libde265 decodes what it can, so what a lost
connection or a disk leaves behind, zeros in the place of data, is noticed in the structure of the data (ITU-T H.265).
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from tagmill.images.formats.heif.items import Property
from tagmill.images.formats.heif.parts import Part, Parts, write_file
from tagmill.outcomes import ErrorCode, ImageFailure

#: sequences that do not occur in a unit: encoders put a 3 behind two zeros (section 7.4.2)
_IMPOSSIBLE = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
#: place in hvcC of the bits that tell how long the length of a unit is (ISO/IEC 14496-15, section 8.3.3.1)
_LENGTH_SIZE = 21
#: types of units below this one hold pixels
_PARAMETERS = 32


def decode_hevc(parts: Parts) -> Image.Image:
    """Return mode L, RGB or RGBA. Raises ImageFailure, and what pillow-heif raises."""
    return _with_alpha(parts, 0, _joined(parts, 0))


def _with_alpha(parts: Parts, index: int, image: Image.Image) -> Image.Image:
    if index not in parts.alphas:
        return image
    image = image.convert("RGB")
    image.putalpha(_joined(parts, parts.alphas[index]).convert("L"))
    if index in parts.premultiplied:
        return Image.frombuffer("RGBa", image.size, image.tobytes(), "raw", "RGBa", 0, 1).convert("RGBA")
    return image


def _joined(parts: Parts, index: int) -> Image.Image:
    """Return an image without its alpha, except that of its tiles."""
    part, colors = parts.all[index], parts.colors(index)
    if part.kind != b"grid":
        return _decoded(part, colors)
    columns = part.data[3] + 1
    canvas = None
    for number, place in enumerate(parts.tiles[index]):
        tile = _with_alpha(parts, place, _decoded(parts.all[place], colors))
        canvas = canvas or Image.new(tile.mode, part.size)
        row, column = divmod(number, columns)
        canvas.paste(tile.convert(canvas.mode), (column * tile.width, row * tile.height))
    assert canvas is not None, "a grid has a tile"
    return canvas


def _decoded(part: Part, colors: list[Property]) -> Image.Image:
    """Return a coded image alone, mode L or RGB."""
    import pillow_heif

    # 0 is this thread, 1 would be another. The security limits of libheif are on unless they are switched off.
    pillow_heif.options.DECODE_THREADS = 0
    described = [found for found in part.properties if found.kind not in {b"colr", b"auxC"}]
    alone = Parts([Part(part.kind, part.data, described + colors)])
    image = pillow_heif.open_heif(write_file(alone)).to_pillow()
    if image.size != part.size:
        raise ImageFailure(ErrorCode.CORRUPT, f"a part is {image.width}x{image.height}, not what it announces")
    if image.mode == "I;16":  # gray of more than 8 bits, scaled to 16
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def check_hevc(part: Part) -> None:
    """Raise ImageFailure if the data is no whole HEVC image."""
    config = part.body(b"hvcC")
    if len(config) <= _LENGTH_SIZE:
        raise ImageFailure(ErrorCode.CORRUPT, "the HEVC image has no configuration")
    has_pixels = False
    for unit in _units(part.data, (config[_LENGTH_SIZE] & 3) + 1):
        has_pixels |= unit[0] >> 1 & 63 < _PARAMETERS
        if unit[0] & 0x80 or unit[-1] == 0 or any(found in unit for found in _IMPOSSIBLE):
            raise ImageFailure(ErrorCode.CORRUPT, "the HEVC data has bytes that no encoder writes")
    if not has_pixels:
        raise ImageFailure(ErrorCode.CORRUPT, "the HEVC data has no pixels")


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Yield each unit (NAL)."""
    offset = 0
    while offset < len(data):
        start = offset + length_size
        end = start + int.from_bytes(data[offset:start])
        if end > len(data) or end < start + 2:
            raise ImageFailure(ErrorCode.CORRUPT, "the HEVC data has a unit of an impossible length")
        yield data[start:end]
        offset = end
