"""The first frame of a GIF lies on its canvas as browsers lay it: what it does not cover is transparent, here white."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tagmill.images.decode import decode
from tagmill.outcomes import ErrorCode, ImageFailure

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
#: LZW data of 1 and 2 pixels... are written by `lzw`: each code is preceded by a clear code, so no table grows
Box = tuple[int, int, int, int]


def lzw(indices: list[int], bits: int = 2) -> bytes:
    """Return indices as LZW codes of one width; a clear code before each keeps the table empty."""
    clear, end, width = 1 << bits, (1 << bits) + 1, bits + 1
    codes = [code for index in indices for code in (clear, index)] + [end]
    stream = sum(code << (number * width) for number, code in enumerate(codes))
    packed = stream.to_bytes(-(-len(codes) * width // 8), "little")
    blocks = [packed[start : start + 255] for start in range(0, len(packed), 255)]
    return bytes([bits]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def table(*colors: tuple[int, int, int]) -> bytes:
    return b"".join(bytes(color) for color in colors).ljust(12, b"\0")


def gif(
    canvas: tuple[int, int],
    box: Box,
    indices: list[int],
    *,
    shared: bytes = b"",
    local: bytes = b"",
    transparent: int | None = None,
    background: int = 0,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """Return a GIF of one frame; `box` is left, top, width, height."""
    data = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x81 if shared else 0, background, 0) + shared + before
    if transparent is not None:
        data += b"\x21\xf9\4" + struct.pack("<BHB", 1, 0, transparent) + b"\0"
    flags = (0x81 if local else 0) | (0x40 if interlaced else 0)
    return data + b"\x2c" + struct.pack("<4HB", *box, flags) + local + lzw(indices) + b"\x3b"


def decoded(data: bytes) -> np.ndarray:
    return decode(data, 256).rgb


COLORS = table(RED, GREEN, BLUE, BLACK)


@pytest.mark.parametrize("background", [0, 1, 3])
@pytest.mark.parametrize("transparent", [None, 0, 2])
@pytest.mark.parametrize("tables", [{"shared": COLORS}, {"local": COLORS}, {"shared": table(WHITE), "local": COLORS}])
def test_a_frame_that_covers_a_part_of_the_canvas(tables: dict, transparent: int | None, background: int) -> None:
    data = gif((5, 4), (2, 1, 2, 2), [0, 1, 2, 3], transparent=transparent, background=background, **tables)
    wanted = np.full((4, 5, 3), 255)
    for place, color in zip(((1, 2), (1, 3), (2, 2), (2, 3)), (RED, GREEN, BLUE, BLACK), strict=True):
        wanted[place] = color
    if transparent is not None:
        wanted[(1, 2) if transparent == 0 else (2, 2)] = WHITE
    assert (decoded(data) == wanted).all()


def test_interlaced_rows_are_put_in_order() -> None:
    rows = list(range(10))
    order = [*rows[0::8], *rows[4::8], *rows[2::4], *rows[1::2]]
    data = gif((1, 10), (0, 0, 1, 10), [row % 4 for row in order], shared=COLORS, interlaced=True)
    assert [tuple(pixel) for pixel in decoded(data)[:, 0].tolist()] == [
        (RED, GREEN, BLUE, BLACK)[row % 4] for row in rows
    ]


def test_a_frame_larger_than_the_canvas_enlarges_it_as_in_browsers() -> None:
    data = gif((1, 1), (0, 0, 2, 2), [0, 1, 2, 3], shared=COLORS)
    assert decoded(data).tolist() == [[list(RED), list(GREEN)], [list(BLUE), list(BLACK)]]


def test_indices_without_a_color_are_black_and_a_file_without_colors_is_refused() -> None:
    data = gif((2, 1), (0, 0, 2, 1), [0, 3], shared=table(RED)[:6].ljust(12, b"\0"))
    assert decoded(data)[0].tolist() == [list(RED), list(BLACK)]
    with pytest.raises(ImageFailure) as caught:
        decode(gif((2, 1), (0, 0, 2, 1), [0, 3]), 256)
    assert caught.value.code == ErrorCode.CORRUPT


@pytest.mark.parametrize(
    "extension",
    [
        b"\x21\xfe" + b"\xffcomment" * 1 + b"x" * 248 + b"\0",
        b"\x21\xff\x0bNETSCAPE2.0\x03\x01\xff\xff\0",
        b"\x21\xff\x0bXMP DataXMP" + (b"\xff" * 256) * 200 + b"\0",
        b"\x21\x01\x0c" + bytes(12) + b"\x04text\0",
        b"\x21\x77\x02ab\0",
        b"\x21\xf9\x01\xff\0",
    ],
    ids=["comment", "loop", "XMP", "text", "unknown", "short control"],
)
def test_extensions_never_decide_whether_a_gif_is_read(extension: bytes) -> None:
    data = gif((2, 2), (0, 0, 2, 2), [0, 1, 2, 3], shared=COLORS, before=extension)
    assert decoded(data).tolist() == [[list(RED), list(GREEN)], [list(BLUE), list(BLACK)]]


def test_frames_of_an_encoder_are_as_pillow_composes_them() -> None:
    random = np.random.default_rng(2)
    frames = [Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).quantize(60) for _ in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], disposal=2)
    first = next(ImageSequence.Iterator(Image.open(out))).convert("RGB")
    assert (decoded(out.getvalue()) == np.asarray(first)).all()
