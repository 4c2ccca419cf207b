"""Every layout of a TIFF is decoded as tifffile, an independent reader, reads its samples, or refused by name."""

import io
import itertools
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from support.image_fixtures import encoded, swapped_profile, tiff_file

from tagmill.images.decode import decode
from tagmill.outcomes import ErrorCode, ImageFailure

HEIGHT, WIDTH = 19, 37
COLORS = {"miniswhite": 1, "minisblack": 1, "rgb": 3, "palette": 1, "separated": 4}
DEPTHS = (1, 2, 4, 5, 8, 12, 16)
EXTRA: tuple[tuple[str, ...], ...] = (
    (),
    ("unspecified",),
    ("assocalpha",),
    ("unassalpha",),
    ("unspecified", "unassalpha"),
)
COMPRESSIONS = (None, "lzw", "zlib", "packbits", "lzma", "zstd")
PREDICTED = (None, "lzw", "zlib", "lzma", "zstd")
CONTAINERS = ("strips", "tiles", "bigtiff")
RANDOM = np.random.default_rng(16)
Samples = NDArray[np.unsignedinteger]


def samples(photometric: str, bits: int, extra: tuple[str, ...]) -> Samples:
    """Return random samples [H, W, samples]; those of premultiplied colors do not exceed their alpha."""
    own = COLORS[photometric]
    dtype = np.uint8 if bits <= 8 else np.uint16
    drawn = RANDOM.integers(0, 1 << bits, (HEIGHT, WIDTH, own + len(extra)), dtype=dtype)
    if "assocalpha" in extra:
        alpha = drawn[:, :, own + extra.index("assocalpha"), None] / ((1 << bits) - 1)
        drawn[:, :, :own] = drawn[:, :, :own] * alpha
    return drawn


def written(
    values: Samples,
    photometric: str,
    bits: int,
    extra: tuple[str, ...] = (),
    *,
    separate: bool = False,
    compression: str | None = None,
    predictor: bool = False,
    order: str = "<",
    container: str = "strips",
    **options: object,
) -> bytes:
    """Return the TIFF that tifffile writes."""
    out = io.BytesIO()
    stored = values.transpose(2, 0, 1) if separate else values
    tifffile.imwrite(
        out,
        np.ascontiguousarray(stored[..., 0] if values.shape[2] == 1 else stored),
        photometric=photometric,
        planarconfig=("separate" if separate else "contig") if values.shape[2] > 1 else None,
        extrasamples=extra or None,
        compression=compression,
        predictor=predictor,
        byteorder=order,
        bitspersample=bits,
        bigtiff=container == "bigtiff",
        tile=(16, 32) if container == "tiles" else None,
        rowsperstrip=None if container == "tiles" else 8,
        metadata=None,
        **options,
    )
    return out.getvalue()


def expected(
    values: Samples, photometric: str, bits: int, extra: tuple[str, ...], palette: Samples
) -> NDArray[np.float64]:
    """Return the colors on white, [H, W, 3] in 0..255."""
    own, level = COLORS[photometric], values / ((1 << bits) - 1)
    kinds = [kind for kind in extra if kind != "unspecified"]
    alpha = level[:, :, own + extra.index(kinds[0]), None] if kinds else np.ones((1, 1, 1))
    color = level[:, :, :own]
    if "assocalpha" in kinds:
        color = color / np.maximum(alpha, 1e-9)
    if photometric == "palette":
        rgb = palette[:, values[:, :, 0]].transpose(1, 2, 0) / 65535
    elif photometric == "separated":
        rgb = (1 - color[:, :, :3]) * (1 - color[:, :, 3:])
    else:
        rgb = np.repeat(color, 3 // own, axis=2)
        rgb = 1 - rgb if photometric == "miniswhite" else rgb
    return np.asarray((rgb * alpha + 1 - alpha) * 255)


def grid(photometric: str) -> Iterator[tuple[int, tuple[str, ...], bool, str | None, bool, str, str]]:
    """Yield bits, extra samples, planes, compression, predictor, byte order, container: each with many others."""
    compressions, predicted = itertools.cycle(COMPRESSIONS), itertools.cycle(PREDICTED[1:])
    containers, orders = itertools.cycle(CONTAINERS), itertools.cycle("<><>>")
    for bits, extra, separate, predictor in itertools.product(DEPTHS, EXTRA, (False, True), (False, True)):
        # tifffile writes palettes of 8 bits; `test_a_palette_of_few_bits` has the others
        if photometric == "palette" and (extra or bits != 8):
            continue
        if (separate and COLORS[photometric] + len(extra) == 1) or (predictor and bits not in {8, 16}):
            continue
        whole_bytes = bits in {8, 16}
        compression = None if not whole_bytes else next(predicted) if predictor else next(compressions)
        # tifffile writes 9 to 15 bits of the other byte order in a way that it does not read itself
        order = next(orders) if bits <= 8 or bits == 16 else "<"
        yield bits, extra, separate, compression, predictor, order, next(containers)


@pytest.mark.parametrize("photometric", COLORS)
def test_every_layout_in_the_list_is_read_pixel_by_pixel(photometric: str) -> None:
    tried = 0
    for bits, extra, separate, compression, predictor, order, container in grid(photometric):
        values = samples(photometric, bits, extra)
        palette = RANDOM.integers(256, 65536, (3, 1 << bits), dtype=np.uint16)
        data = written(
            values,
            photometric,
            bits,
            extra,
            separate=separate,
            compression=compression,
            predictor=predictor,
            order=order,
            container=container,
            **({"colormap": palette} if photometric == "palette" else {}),
        )
        layout = (bits, extra, separate, compression, predictor, order, container)
        read = tifffile.imread(io.BytesIO(data))
        assert (read == (values.transpose(2, 0, 1) if separate else values).reshape(read.shape)).all(), layout
        difference = np.abs(decode(data, 256).rgb - expected(values, photometric, bits, extra, palette)).max()
        assert difference < 3.1, layout
        tried += 1
    assert tried >= (2 if photometric == "palette" else 60)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_with_every_byte_order_container_and_plane(compression: str | None) -> None:
    for bits, order, container, separate in itertools.product((8, 16), "<>", CONTAINERS, (False, True)):
        values = samples("rgb", bits, ())
        data = written(
            values, "rgb", bits, separate=separate, compression=compression, order=order, container=container
        )
        assert np.abs(decode(data, 256).rgb - values / ((1 << bits) - 1) * 255).max() < 1.1


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_compression_is_read_as_tifffile_reads_it(mode: str) -> None:
    photo = Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((83, 67)).convert(mode)
    data = encoded(photo, "TIFF", compression="jpeg", quality=95)
    read = Image.fromarray(tifffile.imread(io.BytesIO(data)), "CMYK" if mode == "CMYK" else None)
    assert np.abs(decode(data, 256).rgb.astype(int) - np.asarray(read.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("tile", [None, (32, 64)])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (4, 1)])
def test_ycbcr_in_jpeg_of_any_subsampling(subsampling: tuple[int, int], tile: tuple[int, int] | None) -> None:
    photo = np.asarray(Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((83, 67)))
    out = io.BytesIO()
    tifffile.imwrite(out, photo, photometric="ycbcr", compression="jpeg", subsampling=subsampling, tile=tile)
    read = tifffile.imread(io.BytesIO(out.getvalue())).astype(int)
    assert np.abs(decode(out.getvalue(), 256).rgb - read).max() <= 1


@pytest.mark.parametrize(
    "compression", ["tiff_ccitt", "group3", "group4", "packbits", "tiff_lzw", "tiff_adobe_deflate"]
)
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_black_and_white_in_both_bit_orders(compression: str, photometric: int, fill_order: int) -> None:
    image = Image.fromarray(RANDOM.integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8) * 255).convert("1")
    data = encoded(image, "TIFF", compression=compression, tiffinfo={262: photometric, 266: fill_order})
    assert (decode(data, 256).rgb[:, :, 0] == np.asarray(image) * 255).all()


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.zeros((8, 8), np.float32), {"photometric": "minisblack"}),
        (np.zeros((8, 8), np.float16), {"photometric": "minisblack"}),
        (np.zeros((8, 8), np.int8), {"photometric": "minisblack"}),
        (np.zeros((8, 8), np.int16), {"photometric": "minisblack"}),
        (np.zeros((8, 8), np.uint32), {"photometric": "minisblack"}),
        (np.zeros((8, 8), np.uint64), {"photometric": "minisblack"}),
        (np.zeros((8, 8, 3), np.float32), {"photometric": "rgb", "compression": "lzw", "predictor": 3}),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "cielab"}),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "icclab"}),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "ycbcr"}),
        (np.zeros((8, 8, 6), np.uint8), {"photometric": "separated", "extratags": [(332, 3, 1, 2, True)]}),
        (np.zeros((8, 8), np.uint16), {"photometric": "palette", "colormap": np.zeros((3, 65536), np.uint16)}),
        (np.zeros((8, 8), np.uint8), {"photometric": "cfa"}),
        (np.zeros((3, 16, 16), np.uint8), {"photometric": "rgb", "compression": "jpeg", "planarconfig": "separate"}),
        *(
            (np.zeros((16, 16, 3), np.uint8), {"photometric": "rgb", "compression": name})
            for name in ("webp", "lerc", "jpegxl")
        ),
    ],
    ids=range(17),
)
def test_a_layout_that_is_not_in_the_list_is_refused_by_name(values: Samples, options: dict[str, object]) -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, values, metadata=None, **options)
    with pytest.raises(ImageFailure, match=r"a TIFF with .* is not read") as caught:
        decode(out.getvalue(), 256)
    assert caught.value.code == ErrorCode.UNSUPPORTED_FORMAT


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF in which a tag of one SHORT has another value."""
    place = data.index(struct.pack("<HHI", tag, 3, 1))
    return data[: place + 8] + struct.pack("<I", value) + data[place + 12 :]


@pytest.mark.parametrize(
    ("tag", "value", "code"),
    [
        (262, 4, ErrorCode.UNSUPPORTED_FORMAT),
        (262, 32845, ErrorCode.UNSUPPORTED_FORMAT),
        (262, 777, ErrorCode.UNSUPPORTED_FORMAT),
        (259, 6, ErrorCode.UNSUPPORTED_FORMAT),
        (259, 32809, ErrorCode.UNSUPPORTED_FORMAT),
        (259, 999, ErrorCode.UNSUPPORTED_FORMAT),
        (259, 4, ErrorCode.UNSUPPORTED_FORMAT),
        (277, 2, ErrorCode.UNSUPPORTED_FORMAT),
        (284, 3, ErrorCode.CORRUPT),
    ],
)
def test_a_value_that_no_listed_layout_has_is_refused(tag: int, value: int, code: ErrorCode) -> None:
    data = with_tag(written(samples("rgb", 8, ()), "rgb", 8), tag, value)
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256)
    assert caught.value.code == code


def test_a_color_profile_applies_to_samples_of_any_depth_and_layout() -> None:
    for bits, separate in itertools.product((8, 16), (False, True)):
        values = np.zeros((8, 8, 3), np.uint8 if bits == 8 else np.uint16)
        values[:, :, 0] = (1 << bits) - 1
        data = written(values, "rgb", bits, separate=separate, iccprofile=swapped_profile())
        assert np.abs(decode(data, 256).rgb.astype(int) - (0, 0, 255)).max() <= 3


@pytest.mark.parametrize("tag", [(50706, "B", 4, (1, 4, 0, 0), True), (65000, "I", 1, 8, True)], ids=["DNG", "SubIFDs"])
def test_the_thumbnail_of_a_camera_s_raw_data_is_not_taken_for_the_photo(tag: tuple[object, ...]) -> None:
    data = written(samples("rgb", 8, ()), "rgb", 8, extratags=[tag], subfiletype=1)
    if tag[0] == 65000:  # tifffile writes no SubIFDs of others
        data = data.replace(struct.pack("<HH", 65000, 4), struct.pack("<HH", 330, 4))
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256)
    assert caught.value.code == ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_few_bits(bits: int) -> None:
    values = RANDOM.integers(0, 1 << bits, (HEIGHT, WIDTH), dtype=np.uint8)
    palette = RANDOM.integers(256, 65536, (3, 1 << bits), dtype=np.uint16)
    rows = np.packbits(np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - bits :].reshape(HEIGHT, -1), axis=1)
    wanted = palette[:, values].transpose(1, 2, 0) >> 8
    for stored in (palette, palette >> 8):  # some writers store 8 bits
        assert (decode(palette_tiff(rows.tobytes(), bits, stored), 256).rgb == wanted).all()


def palette_tiff(rows: bytes, bits: int, palette: Samples) -> bytes:
    tags = [(256, 3, [WIDTH]), (257, 3, [HEIGHT]), (258, 3, [bits]), (259, 3, [1]), (262, 3, [3]), (273, 4, [16])]
    return tiff_file([*tags, (278, 3, [HEIGHT]), (279, 4, [len(rows)]), (320, 3, palette.ravel().tolist())], rows)
