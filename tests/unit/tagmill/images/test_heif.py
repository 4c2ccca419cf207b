"""AVIF and HEIC: the pixels are those of an independent reader, upright, in sRGB, and whole."""

import io
import struct
import sys
import threading
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from support.heif_writer import ALPHA, Coded, Extra, Item, box, coded, container, grid, sequence, still
from support.image_fixtures import dark_gray_profile, encoded, swapped_profile

from tagmill.images.decode import decode
from tagmill.images.formats.signatures import media_types
from tagmill.images.image import DecodeLimits
from tagmill.outcomes import ErrorCode, ImageFailure

RANDOM = np.random.default_rng(7)
PHOTO = Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((80, 64))
CLEAR = PHOTO.convert("RGBA")
CLEAR.putalpha(PHOTO.convert("L"))
FORMS = ["AVIF", "HEIF"]
#: exact pixels
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def decoded(data: bytes) -> np.ndarray:
    return decode(data, 256).rgb.astype(int)


def failure(data: bytes, limits: DecodeLimits | None = None) -> ImageFailure:
    with pytest.raises(ImageFailure) as caught:
        decode(data, 256, limits)
    return caught.value


def on_white(pixels: np.ndarray, bits: int = 8) -> np.ndarray:
    levels = pixels * (255 / ((1 << bits) - 1))
    if levels.ndim == 2:
        levels = np.repeat(levels[:, :, None], 3, axis=2)
    alpha = levels[:, :, 3:] / 255 if levels.shape[2] == 4 else 1.0
    return np.asarray(levels[:, :, :3] * alpha + 255 * (1 - alpha))


def lossless(image: Image.Image) -> Coded:
    return coded(encoded(image, "HEIF", **LOSSLESS))


def lossy_avif(image: Image.Image, **options: object) -> Coded:
    return coded(encoded(image, "AVIF", quality=100, subsampling="4:4:4", **options))


PHOTO_HEVC, PHOTO_AV1 = lossless(PHOTO), lossy_avif(PHOTO)
CODED = {"AVIF": PHOTO_AV1, "HEIF": PHOTO_HEVC}


def clap(width: int, height: int, right: int = 0, below: int = 0, divisor: int = 1) -> Extra:
    return b"clap", struct.pack(">8i", width, 1, height, 1, right, divisor, below, divisor), True


def irot(quarters: int) -> Extra:
    return b"irot", bytes([quarters]), True


def imir(axis: int) -> Extra:
    return b"imir", bytes([axis]), True


def nclx(primaries: int, transfer: int, matrix: int = 6) -> Extra:
    """Return code points; matrix 0 is for data that is RGB as it is."""
    return b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, 0x80), False


@pytest.mark.parametrize("size", [(80, 64), (33, 7), (1, 1)])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("sampling", ["420", "422", "444"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_an_avif_is_decoded_as_another_reader_does(
    bits: int, sampling: str, has_alpha: bool, size: tuple[int, int]
) -> None:
    pixels = np.asarray((CLEAR if has_alpha else PHOTO).resize(size)).astype(np.uint16)
    pixels = (pixels * ((1 << bits) - 1) // 255).astype(np.uint8 if bits == 8 else np.uint16)
    data = imagecodecs.avif_encode(pixels, level=90, speed=9, bitspersample=bits, pixelformat=sampling)
    expected = on_white(imagecodecs.avif_decode(data), bits)
    # With more than 8 bits, the other reader interpolates colors between their samples.
    assert np.abs(decoded(data) - expected).max() <= (1 if bits == 8 else 24)
    assert np.abs(decoded(data) - expected).mean() <= (0.5 if bits == 8 else 2)


def test_a_gray_avif_is_decoded_and_its_gray_profile_counts() -> None:
    gray = np.asarray(PHOTO.convert("L"))
    data = imagecodecs.avif_encode(gray, level=100, pixelformat="400")
    assert np.abs(decoded(data) - on_white(imagecodecs.avif_decode(data))).max() <= 1
    stored = coded(encoded(Image.new("L", (32, 32), 128), "AVIF", quality=100))
    data = still(stored, (b"colr", b"prof" + dark_gray_profile(), False))
    assert np.abs(decoded(data) - 71).max() <= 1


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize(
    "image",
    [PHOTO, CLEAR, PHOTO.convert("L"), PHOTO.resize((33, 7)), CLEAR.resize((1, 1))],
    ids=["color", "alpha", "gray", "odd", "one pixel"],
)
def test_a_lossless_heic_is_decoded_to_the_pixels_that_were_encoded(image: Image.Image, bits: int) -> None:
    pixels = np.asarray(image).astype(np.uint16) * 257 if bits > 8 else np.asarray(image)
    file = pillow_heif.from_bytes(f"{image.mode};16" if bits > 8 else image.mode, image.size, pixels.tobytes())
    out = io.BytesIO()
    file.save(out, bit_depth=bits, **LOSSLESS)
    assert np.abs(decoded(out.getvalue()) - on_white(np.asarray(image))).max() <= 1


@pytest.mark.parametrize("sampling", [420, 422])
def test_a_heic_of_few_color_samples_has_their_colors(sampling: int) -> None:
    flat = Image.new("RGB", (64, 64), (200, 60, 90))
    for mode, pixels in (("RGB", np.asarray(flat)), ("RGB;16", np.asarray(flat).astype(np.uint16) * 257)):
        out = io.BytesIO()
        pillow_heif.from_bytes(mode, flat.size, pixels.tobytes()).save(out, quality=95, chroma=sampling)
        assert np.abs(decoded(out.getvalue()) - np.asarray(flat)).max() <= 3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("quarters", range(4))
def test_rotation_and_mirroring_are_applied_in_their_order(quarters: int, mirror: int | None, form: str) -> None:
    upright = decoded(still(CODED[form]))
    mirrors = [] if mirror is None else [imir(mirror)]
    turned = np.rot90(upright, quarters)
    wanted = turned if mirror is None else np.flip(turned, mirror)
    image = decode(still(CODED[form], irot(quarters), *mirrors), 256)
    assert (image.rgb == wanted).all()
    assert (image.height, image.width) == wanted.shape[:2]
    if mirror is not None:
        assert (
            decoded(still(CODED[form], *mirrors, irot(quarters))) == np.rot90(np.flip(upright, mirror), quarters)
        ).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_exif_orientation_is_not_applied_beside_the_rotation_or_alone(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = encoded(PHOTO, form, exif=exif)
    assert b"irot" in rotated
    assert decoded(rotated).shape == (80, 64, 3)
    items = [
        Item(CODED[form].kind, CODED[form].data, CODED[form].properties),
        Item(b"Exif", bytes(4) + exif.tobytes(), []),
    ]
    assert (decoded(container(items, [(b"cdsc", 2, (1,))])) == decoded(still(CODED[form]))).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_crop_comes_before_the_rotation(form: str) -> None:
    whole = decoded(still(CODED[form]))
    wanted = whole[10:40, 4:24]  # its center is 26 left of the image's, and 7 above it
    assert (decoded(still(CODED[form], clap(20, 30, -26, -7))) == wanted).all()
    assert (decoded(still(CODED[form], clap(20, 30, -52, -14, divisor=2), irot(1))) == np.rot90(wanted)).all()
    image = decode(still(CODED[form], clap(20, 30, -26, -7), irot(1)), 256)
    assert (image.width, image.height) == (30, 20)


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ([clap(20, 30, 60)], ErrorCode.CORRUPT),
        ([clap(20, 30, divisor=0)], ErrorCode.CORRUPT),
        ([clap(0, 30)], ErrorCode.CORRUPT),
        ([(b"clap", bytes(8), True)], ErrorCode.CORRUPT),
        ([irot(1), clap(20, 30)], ErrorCode.UNSUPPORTED_FORMAT),
        ([(b"abcd", b"", True)], ErrorCode.UNSUPPORTED_FORMAT),
        ([nclx(9, 16)], ErrorCode.UNSUPPORTED_FORMAT),
        ([nclx(9, 18)], ErrorCode.UNSUPPORTED_FORMAT),
    ],
    ids=["crop outside", "crop by zero", "empty crop", "short crop", "crop after rotation", "unknown", "PQ", "HLG"],
)
def test_properties_that_can_not_be_honored_are_refused(extra: list[Extra], code: ErrorCode) -> None:
    for form in FORMS:
        assert failure(still(CODED[form], *extra)).code == code


def test_an_unknown_property_that_is_not_essential_is_ignored() -> None:
    assert (decoded(still(PHOTO_HEVC, (b"abcd", b"x", False))) == np.asarray(PHOTO)).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_profile_wins_over_code_points(form: str) -> None:
    icc: Extra = (b"colr", b"prof" + swapped_profile(), False)
    stored = decoded(still(CODED[form]))
    points = nclx(12, 13, 0 if form == "HEIF" else 6)
    for extra in ([icc, points], [points, icc]):
        assert np.abs(decoded(still(CODED[form], *extra)) - stored[:, :, ::-1]).max() <= 2


@pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (1, 1), (2, 2)])
def test_code_points_of_srgb_and_unknown_ones_change_nothing(primaries: int, transfer: int) -> None:
    stored = Image.new("RGB", (64, 64), (200, 60, 90))
    assert (decoded(still(lossless(stored), nclx(primaries, transfer, 0))) == np.asarray(stored)).all()


#: linear sRGB from linear P3 and BT.2020 (SMPTE EG 432-1, ITU-R BT.2087)
P3 = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def linear(levels: np.ndarray) -> np.ndarray:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def srgb(levels: np.ndarray) -> np.ndarray:
    levels = levels.clip(0, 1)
    return np.where(levels <= 0.0031308, levels * 12.92, 1.055 * levels ** (1 / 2.4) - 0.055) * 255


@pytest.mark.parametrize("color", [(200, 100, 100), (120, 160, 90), (255, 255, 255), (40, 60, 220)])
@pytest.mark.parametrize(("primaries", "matrix"), [(12, P3), (9, BT2020), (1, np.eye(3))])
@pytest.mark.parametrize("transfer", [13, 1, 8, 4])
def test_code_points_of_other_colors_are_converted_to_srgb(
    transfer: int, primaries: int, matrix: np.ndarray, color: tuple[int, int, int]
) -> None:
    levels = np.array(color) / 255
    light = {8: levels, 4: levels**2.2}.get(transfer, linear(levels))
    data = still(lossless(Image.new("RGB", (64, 64), color)), nclx(primaries, transfer, 0))
    assert np.abs(decoded(data) - srgb(matrix @ light)).max() <= (6 if transfer == 4 else 3)  # 2.2 alone counts as sRGB


@pytest.mark.parametrize("form", FORMS)
def test_tiles_are_joined_and_cut_to_the_size_of_the_image(form: str) -> None:
    tile = CODED[form]
    pixels = decoded(still(tile))
    joined = np.concatenate([np.concatenate([pixels] * 2, axis=1)] * 2)
    assert (decoded(grid([tile] * 4, 2, (140, 100))) == joined[:100, :140]).all()
    assert (decoded(grid([tile] * 4, 2, (140, 100), irot(3))) == np.rot90(joined[:100, :140], 3)).all()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (grid([PHOTO_HEVC] * 3, 3, (140, 100)), ErrorCode.CORRUPT),
        (grid([PHOTO_HEVC] * 4, 2, (170, 100)), ErrorCode.CORRUPT),
        (grid([PHOTO_HEVC, PHOTO_AV1] * 2, 2, (140, 100)), ErrorCode.CORRUPT),
        (container([Item(b"grid", bytes(8), [])]), ErrorCode.CORRUPT),
        (container([Item(b"iovl", b"", [])]), ErrorCode.UNSUPPORTED_FORMAT),
        (container([Item(b"vvc1", b"x", PHOTO_HEVC.properties)]), ErrorCode.UNSUPPORTED_FORMAT),
        (container([], primary=9), ErrorCode.CORRUPT),
        (box(b"ftyp", b"heic", bytes(4)) + box(b"moov"), ErrorCode.CORRUPT),
    ],
    ids=["too low", "too wide", "two codecs", "no size", "overlay", "another codec", "nothing", "no track"],
)
def test_images_that_are_not_what_they_announce_are_refused(data: bytes, code: ErrorCode) -> None:
    assert failure(data).code == code


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_alpha_is_placed_on_white_also_if_it_is_multiplied_already(form: str, premultiplied: bool) -> None:
    color = lossless if form == "HEIF" else lossy_avif
    level = 120 if premultiplied else 240
    image, alpha = color(Image.new("RGB", (64, 64), (level, 0, 0))), color(Image.new("L", (64, 64), 128))
    items = [
        Item(image.kind, image.data, image.properties),
        Item(alpha.kind, alpha.data, [*alpha.properties, (b"auxC", ALPHA, True)]),
    ]
    prem = [(b"prem", 1, (2,))] if premultiplied else []
    found = decoded(container(items, [(b"auxl", 2, (1,)), *prem]))
    assert np.abs(found - (247, 127, 127)).max() <= 2


@pytest.mark.parametrize("form", FORMS)
def test_tiles_may_have_alphas_of_their_own(form: str) -> None:
    color = lossless if form == "HEIF" else lossy_avif
    image, alpha = color(Image.new("RGB", (64, 64), (240, 0, 0))), color(Image.new("L", (64, 64), 128))
    ispe = (b"ispe", bytes(4) + struct.pack(">II", 100, 60), False)
    tile = Item(image.kind, image.data, image.properties)
    layer = Item(alpha.kind, alpha.data, [*alpha.properties, (b"auxC", ALPHA, True)])
    items = [Item(b"grid", bytes([0, 0, 0, 1]) + struct.pack(">HH", 100, 60), [ispe]), tile, tile, layer, layer]
    found = decoded(container(items, [(b"dimg", 1, (2, 3)), (b"auxl", 4, (2,)), (b"auxl", 5, (3,))]))
    assert found.shape == (60, 100, 3)
    assert np.abs(found - (247, 127, 127)).max() <= 2


def test_an_alpha_of_another_size_and_further_alphas_cost_nothing() -> None:
    image, large = PHOTO_HEVC, lossless(Image.new("L", (160, 128), 128))
    color = Item(image.kind, image.data, image.properties)
    alpha = Item(large.kind, large.data, [*large.properties, (b"auxC", ALPHA, True)])
    assert failure(container([color, alpha], [(b"auxl", 2, (1,))])).code == ErrorCode.CORRUPT
    opaque = lossless(Image.new("L", PHOTO.size, 255))
    first = Item(opaque.kind, opaque.data, [*opaque.properties, (b"auxC", ALPHA, True)])
    chain = [(b"auxl", 2, (1,)), *((b"auxl", number, (number - 1, 1)) for number in range(3, 1500))]
    assert (decoded(container([color, first, *[alpha] * 1500], chain)) == np.asarray(PHOTO)).all()


@pytest.mark.parametrize("form", FORMS)
def test_the_first_frame_of_a_sequence_without_a_still_is_read_with_its_alpha(form: str) -> None:
    frame, later = CODED[form], (lossless if form == "HEIF" else lossy_avif)(PHOTO.rotate(180))
    assert (decoded(sequence([frame, later])) == decoded(still(frame))).all()
    assert failure(sequence([frame, later]), DecodeLimits(max_frames=1)).code == ErrorCode.TOO_MANY_FRAMES
    half = (lossless if form == "HEIF" else lossy_avif)(Image.new("L", PHOTO.size, 128))
    wanted = (decoded(still(frame)) + 255) / 2
    assert np.abs(decoded(sequence([frame, later], [half, half])) - wanted).max() <= 2


def test_of_several_images_the_primary_is_read() -> None:
    images = {"save_all": True, "append_images": [PHOTO], "primary_index": 1}
    data = encoded(PHOTO.rotate(180), "HEIF", **images, **LOSSLESS)
    assert (decoded(data) == np.asarray(PHOTO)).all()


@pytest.mark.parametrize("form", FORMS)
def test_damaged_metadata_does_not_matter(form: str) -> None:
    image = Item(CODED[form].kind, CODED[form].data, CODED[form].properties)
    for junk in (Item(b"Exif", b"\xff" * 9, []), Item(b"mime", b"", []), Item(b"hvc1", b"", [])):
        assert (decoded(container([image, junk], [(b"thmb", 2, (1,))])) == decoded(still(CODED[form]))).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_ends_anywhere_in_its_image_is_truncated(form: str) -> None:
    data = encoded(PHOTO, form)
    for end in range(12, len(data), 37):
        assert failure(data[:end]).code == ErrorCode.TRUNCATED
    frames = sequence([CODED[form]] * 2)
    for end in range(12, len(frames), 97):
        assert failure(frames[:end]).code == ErrorCode.TRUNCATED


@pytest.mark.parametrize("form", FORMS)
def test_zeros_in_the_place_of_data_are_noticed(form: str) -> None:
    noise = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, form)
    for share in (0.3, 0.5, 0.9):
        start = int(len(data) * share)
        for end in (start + 100, len(data)):
            assert failure(data[:start] + bytes(end - start) + data[end:]).code == ErrorCode.CORRUPT


@pytest.mark.parametrize("form", FORMS)
def test_lost_bytes_are_noticed_by_the_lengths_inside(form: str) -> None:
    image = CODED[form]
    for data in (image.data[:-20], image.data[:30] + image.data[60:], image.data + b"\xff\xff", b""):
        lost = Coded(image.kind, image.config, data, image.width, image.height)
        assert failure(still(lost)).code == ErrorCode.CORRUPT


def test_the_pixel_limit_holds_for_every_size_that_a_file_announces() -> None:
    limits = DecodeLimits(max_pixels=100 * 100)
    assert failure(grid([PHOTO_HEVC] * 4, 2, (140, 100)), limits).code == ErrorCode.TOO_MANY_PIXELS
    assert failure(grid([PHOTO_HEVC] * 4, 2, (90, 70)), limits).code == ErrorCode.TOO_MANY_PIXELS
    large = lossy_avif(PHOTO.resize((128, 128)))
    small_box = Coded(large.kind, large.config, large.data, 64, 64)
    assert failure(still(small_box), limits).code == ErrorCode.TOO_MANY_PIXELS
    assert failure(sequence([large, large]), limits).code == ErrorCode.TOO_MANY_PIXELS


def test_a_heic_whose_data_is_larger_than_its_size_is_refused_by_its_decoder() -> None:
    large = lossless(PHOTO.resize((512, 512)))
    assert failure(still(Coded(large.kind, large.config, large.data, 64, 64))).code == ErrorCode.CORRUPT


def test_items_that_share_their_bytes_cost_no_memory() -> None:
    tiles = grid([PHOTO_HEVC] * 400, 20, (1600, 1280))
    data = tiles.replace(PHOTO_HEVC.data * 400, PHOTO_HEVC.data)
    place, length = data.index(b"iloc") + 12, len(PHOTO_HEVC.data)
    entry = struct.pack(">II", 8, length)
    for number in range(1, 401):
        start = place + 16 * number + 8
        data = data[:start] + entry + data[start + 8 :]
    # The sizes of the boxes are still those of the long file.
    for kind in (b"idat", b"meta"):
        start = data.index(kind) - 4
        size = struct.unpack_from(">I", data, start)[0] - 399 * length
        data = data[:start] + struct.pack(">I", size) + data[start + 4 :]
    assert (decode(data, 4096).rgb[:64, :80] == np.asarray(PHOTO)).all()


def test_decoders_start_no_threads_that_stay_or_add_up() -> None:
    """The thread that counts is one; libde265 has one for the image that is being decoded; dav1d has none."""
    images = [still(PHOTO_AV1), grid([PHOTO_HEVC] * 4, 2, (140, 100))]
    counts = []

    def count() -> None:
        while not done.is_set():
            counts.append(len(list(Path("/proc/self/task").iterdir())))

    for data in images:
        decoded(data)
    before, done = len(list(Path("/proc/self/task").iterdir())), threading.Event()
    counter = threading.Thread(target=count)
    counter.start()
    for data in images * 20:
        decoded(data)
    done.set()
    counter.join()
    assert max(counts) <= before + 2


def test_without_pillow_heif_a_heic_fails_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"image/avif", "image/heic"} <= set(media_types())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    found = failure(still(PHOTO_HEVC))
    assert found.code == ErrorCode.UNSUPPORTED_FORMAT
    assert "pip install 'tagmill[heif]'" in found.detail
    assert decoded(still(PHOTO_AV1)).shape == (64, 80, 3)
    assert "image/heic" not in media_types()
    assert "image/avif" in media_types()
