"""WebP: stills, alpha and first frames are decoded as libwebp decodes them, whatever the other chunks hold."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import encoded

from tagmill.images.decode import decode
from tagmill.outcomes import ErrorCode, ImageFailure

RANDOM = np.random.default_rng(7)
PHOTO = Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((47, 31))
CLEAR = PHOTO.convert("RGBA")
CLEAR.putalpha(PHOTO.convert("L"))


def decoded(data: bytes) -> np.ndarray:
    return decode(data, 256).rgb.astype(int)


def on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[:, :, 3:] / 255
    return np.asarray(rgba[:, :, :3] * alpha + 255 * (1 - alpha))


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def uint24(*values: int) -> bytes:
    return b"".join(value.to_bytes(3, "little") for value in values)


def header(size: tuple[int, int], flags: int) -> bytes:
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + uint24(size[0] - 1, size[1] - 1))


def frame(image: bytes, left: int, top: int, size: tuple[int, int]) -> bytes:
    """Return an animation's frame of a still's chunks."""
    return chunk(b"ANMF", uint24(left // 2, top // 2, size[0] - 1, size[1] - 1, 100) + b"\0" + image)


def image_chunks(data: bytes) -> bytes:
    """Return the chunks of a still that hold pixels."""
    place, found = 12, b""
    while place < len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        end = place + 8 + length + length % 2
        if data[place : place + 4] in {b"VP8 ", b"VP8L", b"ALPH"}:
            found += data[place:end]
        place = end
    return found


@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"lossless": True}, {"exact": True, "lossless": True}])
@pytest.mark.parametrize("image", [PHOTO, CLEAR], ids=["opaque", "alpha"])
def test_stills_are_decoded_as_by_another_reader(image: Image.Image, options: dict[str, object]) -> None:
    data = encoded(image, "WEBP", **options)
    read = imagecodecs.webp_decode(data)
    wanted = on_white(read) if read.shape[2] == 4 else read
    assert np.abs(decoded(data) - wanted).max() <= 1


@pytest.mark.parametrize("flags", [0x02, 0x12], ids=["no alpha flag", "alpha flag"])
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("image", [PHOTO, CLEAR], ids=["opaque", "alpha"])
def test_what_the_first_frame_of_an_animation_does_not_cover_is_white(
    image: Image.Image, lossless: bool, flags: int
) -> None:
    still = encoded(image, "WEBP", lossless=lossless)
    first = frame(image_chunks(still), 10, 6, image.size)
    later = frame(image_chunks(still), 0, 0, image.size)
    data = riff(header((80, 50), flags), chunk(b"ANIM", b"\0\0\0\xff\0\0"), first, later)
    wanted = np.full((50, 80, 3), 255.0)
    wanted[6:37, 10:57] = decoded(still)
    assert np.abs(decoded(data) - wanted).max() == 0


def test_a_first_frame_beyond_its_canvas_fails() -> None:
    still = image_chunks(encoded(PHOTO, "WEBP"))
    with pytest.raises(ImageFailure) as caught:
        decode(riff(header((50, 50), 2), chunk(b"ANIM", bytes(6)), frame(still, 10, 6, PHOTO.size)), 256)
    assert caught.value.code == ErrorCode.CORRUPT


JUNK = [
    chunk(b"EXIF", b""),
    chunk(b"EXIF", b"\xff" * 70_000),
    chunk(b"XMP ", b"<broken \xff"),
    chunk(b"ICCP", b"damage"),
    chunk(b"ICCP", b"\xff" * (5 << 20)),
    chunk(b"ABCD", b"unknown"),
    chunk(b"VP8X", b"short"),
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
@pytest.mark.parametrize("image", [PHOTO, CLEAR], ids=["opaque", "alpha"])
def test_metadata_never_decides_whether_a_webp_is_read(image: Image.Image, junk: bytes) -> None:
    still = encoded(image, "WEBP")
    pixels, wanted = image_chunks(still), decoded(still)
    for flags in (0x00, 0x3C):
        before, after = (riff(header(image.size, flags), *order) for order in ((junk, pixels), (pixels, junk)))
        assert (decoded(before) == wanted).all()
        assert (decoded(after) == wanted).all()
        assert (decoded(after[: len(after) - len(junk) + 5]) == wanted).all(), "cut in the metadata"
        odd = after[: -len(junk)] + junk[:4] + b"\xff\xff\xff\x7f" + junk[8:]
        assert (decoded(odd) == wanted).all(), "a chunk that reaches over the end"


def test_bytes_behind_the_container_are_not_read() -> None:
    data = encoded(CLEAR, "WEBP")
    assert (decoded(data + io.BytesIO(b"film").getvalue() * 999) == decoded(data)).all()
