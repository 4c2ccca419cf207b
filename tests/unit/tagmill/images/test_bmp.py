"""BMPs of every header, depth, bit mask and compression are decoded to the colors that they define, or refused."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from support.image_fixtures import encoded, swapped_profile

from tagmill.images.decode import decode
from tagmill.outcomes import ErrorCode, ImageFailure

HEIGHT, WIDTH = 5, 7
RANDOM = np.random.default_rng(4)
COLORS = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
RGB, RLE8, RLE4, MASKS, JPEG, PNG, ALPHA_MASKS = range(7)
HEADERS = [12, 16, 40, 52, 56, 64, 108, 124]


def bmp(
    rows: bytes,
    bits: int,
    *,
    header: int = 40,
    compression: int = RGB,
    masks: tuple[int, ...] = (),
    colors: int | None = None,
    top_down: bool = False,
    offset: int | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    end: bytes = b"",
) -> bytes:
    """Return a BMP; `rows` are in the order of the file, `end` is the rest of a header of version 5."""
    width, height = size
    if header == 12:
        info = struct.pack("<I4H", 12, width, height, 1, bits)
    else:
        fields = struct.pack(
            "<IiiHHIIiiII",
            header,
            width,
            -height if top_down else height,
            1,
            bits,
            compression,
            0,
            0,
            0,
            colors or 0,
            0,
        )
        info = fields[:header]
    info += struct.pack(f"<{len(masks)}I", *masks)
    info = info[:header] + end + bytes(max(0, header - len(info) - len(end))) + info[header:]
    number = (colors or 1 << bits) if bits <= 8 else 0
    palette = b"".join(bytes(color[::-1]) + b"\0" * (header != 12) for color in COLORS[:number])
    start = 14 + len(info) + len(palette) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + info + palette + rows


def packed(values: np.ndarray, bits: int, top_down: bool = False) -> bytes:
    """Return rows of values [H, W], padded to 4 bytes, the lowest first."""
    rows = values if top_down else values[::-1]
    if bits < 8:
        spread = np.unpackbits(rows.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
        raw = np.packbits(spread.reshape(len(rows), -1), axis=1)
    else:
        raw = np.frombuffer(rows.astype("<u4").tobytes(), np.uint8).reshape(*rows.shape, 4)[:, :, : bits // 8]
        raw = raw.reshape(len(rows), -1)
    return np.pad(raw, ((0, 0), (0, -raw.shape[1] % 4))).tobytes()


def decoded(data: bytes) -> np.ndarray:
    return decode(data, 256).rgb


def failure(data: bytes) -> ErrorCode:
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256)
    return caught.value.code


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("top_down", [False, True])
def test_palettes_of_every_header(header: int, bits: int, top_down: bool) -> None:
    values = RANDOM.integers(0, 1 << bits, (HEIGHT, WIDTH))
    top_down = top_down and header > 12  # the height of the oldest has no sign
    data = bmp(packed(values, bits, top_down), bits, header=header, top_down=top_down)
    assert (decoded(data) == COLORS[values]).all()
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if bits != 2 and header >= 40 else None
    assert read is None or (read == COLORS[values]).all()


@pytest.mark.parametrize("header", HEADERS)
def test_24_bits_of_every_header(header: int) -> None:
    values = RANDOM.integers(0, 1 << 24, (HEIGHT, WIDTH))
    wanted = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=2)
    assert (decoded(bmp(packed(values, 24), 24, header=header)) == wanted).all()


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0x7C00, 0x3E0, 0x1F)),
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0x1F, 0x7E0, 0xF800)),
        (16, (0xF00, 0xF0, 0xF)),
        (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (32, (0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF, 0xFF00, 0xFF0000)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
        (32, (0x7, 0x38, 0x1C0)),
    ],
)
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_any_bit_masks(bits: int, masks: tuple[int, ...], header: int) -> None:
    values = RANDOM.integers(0, 1 << bits, (HEIGHT, WIDTH), dtype=np.uint32)
    compression = MASKS
    if len(masks) == 4 and header < 56:
        compression = ALPHA_MASKS
    stored = masks + ((0,) if len(masks) == 3 and header >= 56 else ())
    data = bmp(packed(values, bits), bits, header=header, compression=compression, masks=stored)
    levels = []
    for mask in masks:
        shift = (mask & -mask).bit_length() - 1
        levels.append((values & mask >> 0).astype(np.uint64) >> np.uint64(shift))
        levels[-1] = levels[-1] / (mask >> shift) * 255
    alpha = levels[3][:, :, None] / 255 if len(masks) == 4 else 1
    wanted = np.stack(levels[:3], axis=2) * alpha + 255 * (1 - alpha)
    assert np.abs(decoded(data) - wanted).max() <= 1.01


@pytest.mark.parametrize("bits", [16, 32])
def test_without_masks_the_defaults_apply_and_the_rest_is_not_alpha(bits: int) -> None:
    values = RANDOM.integers(0, 1 << bits, (HEIGHT, WIDTH), dtype=np.uint32)
    shifts, most = ((10, 5, 0), 31) if bits == 16 else ((16, 8, 0), 255)
    wanted = np.stack([(values >> shift & most) / most * 255 for shift in shifts], axis=2)
    assert np.abs(decoded(bmp(packed(values, bits), bits)) - wanted).max() <= 0.51


def test_alpha_that_is_zero_everywhere_is_no_alpha() -> None:
    values = RANDOM.integers(0, 1 << 24, (HEIGHT, WIDTH), dtype=np.uint32)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = bmp(packed(values, 32), 32, header=124, compression=MASKS, masks=masks)
    assert (decoded(data) == np.stack([values >> 16, values >> 8 & 255, values & 255], axis=2)).all()


WHITE = [255, 255, 255]


def test_run_lengths_of_8_bits() -> None:
    rows = bytes([3, 5, 0, 3, 1, 2, 3, 0, 1, 9, 0, 0]) + bytes([9, 7, 0, 0]) + bytes([0, 2, 1, 1, 2, 8, 0, 1])
    data = bmp(rows, 8, compression=RLE8)
    wanted = np.full((HEIGHT, WIDTH, 3), 255)
    wanted[4] = COLORS[[5, 5, 5, 1, 2, 3, 9]]
    wanted[3] = COLORS[7]  # a run ends with its row
    wanted[1, 1:3] = COLORS[8]  # a delta: one to the right, one up
    assert (decoded(data) == wanted).all()


def test_run_lengths_of_4_bits() -> None:
    rows = bytes([5, 0x12, 0, 0]) + bytes([0, 5, 0x34, 0x56, 0x70, 0, 0, 0]) + bytes([0, 1])
    data = bmp(rows, 4, compression=RLE4)
    wanted = np.full((HEIGHT, WIDTH, 3), 255)
    wanted[4, :5] = COLORS[[1, 2, 1, 2, 1]]
    wanted[3, :5] = COLORS[[3, 4, 5, 6, 7]]
    assert (decoded(data) == wanted).all()


def test_run_lengths_that_end_early_are_truncated() -> None:
    rows = bytes([7, 1, 0, 0]) * HEIGHT
    whole = bmp(rows, 8, compression=RLE8)
    assert (decoded(whole) == COLORS[1]).all()
    for length in range(1, len(rows) - 1):
        assert failure(whole[:-length]) == ErrorCode.TRUNCATED or length < 3
    for tail in (b"\0\2", b"\0\2\1", b"\0\7\1"):
        assert failure(bmp(tail, 8, compression=RLE8)) == ErrorCode.TRUNCATED


def test_a_short_palette_is_filled_with_black_and_a_missing_offset_follows_the_palette() -> None:
    values = RANDOM.integers(0, 4, (HEIGHT, WIDTH))
    wanted = np.where((values < 2)[:, :, None], COLORS[values], 0)
    assert (decoded(bmp(packed(values, 8), 8, colors=2)) == wanted).all()
    assert (decoded(bmp(packed(values, 8), 8, colors=4, offset=0)) == COLORS[values]).all()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"bits": 0, "compression": JPEG}, ErrorCode.UNSUPPORTED_FORMAT),
        ({"bits": 0, "compression": PNG}, ErrorCode.UNSUPPORTED_FORMAT),
        ({"bits": 64}, ErrorCode.UNSUPPORTED_FORMAT),
        ({"bits": 1, "compression": 3, "header": 64}, ErrorCode.UNSUPPORTED_FORMAT),
        ({"bits": 24, "compression": 4, "header": 64}, ErrorCode.UNSUPPORTED_FORMAT),
        ({"bits": 5}, ErrorCode.CORRUPT),
        ({"bits": 24, "compression": RLE8}, ErrorCode.CORRUPT),
        ({"bits": 8, "compression": RLE8, "top_down": True}, ErrorCode.CORRUPT),
        ({"bits": 24, "compression": 77}, ErrorCode.CORRUPT),
        ({"bits": 24, "header": 41}, ErrorCode.CORRUPT),
        ({"bits": 24, "size": (0, 5)}, ErrorCode.CORRUPT),
        ({"bits": 24, "size": (-3, 5)}, ErrorCode.CORRUPT),
        ({"bits": 16, "compression": MASKS, "masks": (0x5A5A, 0x3E0, 0x1F)}, ErrorCode.CORRUPT),
        ({"bits": 16, "compression": MASKS, "masks": (0xFF0000, 0x3E0, 0x1F)}, ErrorCode.CORRUPT),
    ],
)
def test_what_is_not_read_is_refused(options: dict, code: ErrorCode) -> None:
    assert failure(bmp(bytes(2000), **options)) == code


def test_rows_that_end_early_are_truncated_and_padding_may_be_missing() -> None:
    values = RANDOM.integers(0, 1 << 24, (HEIGHT, WIDTH))
    data = bmp(packed(values, 24), 24)
    assert (decoded(data[:-3]) == decoded(data)).all()
    assert failure(data[:-4]) == ErrorCode.TRUNCATED
    assert failure(data[:20]) == ErrorCode.TRUNCATED


def test_an_embedded_profile_is_converted_and_a_damaged_one_ignored() -> None:
    red = np.full((HEIGHT, WIDTH), 0xFF0000)
    for profile, wanted in ((swapped_profile(), (0, 0, 255)), (b"damage", (255, 0, 0))):
        rows = packed(red, 24)
        rest = (b"DEBM" + bytes(52) + struct.pack("<III", 124 + len(rows), len(profile), 0)).rjust(84, b"\0")
        data = bmp(rows, 24, header=124, end=rest) + profile
        assert np.abs(decoded(data).astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_what_pillow_writes(mode: str) -> None:
    photo = Image.fromarray(RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).convert(mode)
    opaque = photo.convert("RGB")
    assert (decoded(encoded(photo, "BMP")) == np.asarray(opaque)).all()
