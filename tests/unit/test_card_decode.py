"""Decoding on a card, with libjpeg in the card's place: which files it is given, and what becomes of its pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from encoded import encoded, swapped_profile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tagmill import preprocess
from tagmill.errors import ConfigurationError, ExitCode
from tagmill.outcome import ErrorCode, ImageFailure
from tagmill.picture import DecodeLimits, Pixels
from tagmill.registry import ModelStore
from tagmill.settings import Settings
from worker.card_decode import CardDecoder, card_reader
from worker.daemon_pool import DaemonPool
from worker.device import require_device
from worker.onnxruntime_engine import card_seen
from worker.tagger import Tagger

NO_CARD = pytest.mark.skipif(card_seen(), reason="this machine has a card: benchmarks/gpu.py checks it")


def photo(width: int, height: int) -> Image.Image:
    """Return a picture as smooth as a photo is."""
    noise = np.random.default_rng(7).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def whole(data: bytes) -> Pixels:
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=False)
    return pixels


def never(data: bytes) -> Pixels:
    raise AssertionError("this file is not for the card")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 224, 256]), st.integers(1, 8))
def test_the_cards_pictures_have_the_size_of_the_cpus(width: int, height: int, side: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(photo(width, height), "JPEG", exif=exif)
    ours, theirs = CardDecoder(whole).decode(data, side), preprocess.decode(data, side)
    assert (ours.width, ours.height, ours.format) == (theirs.width, theirs.height, theirs.format)
    assert ours.rgb.shape == theirs.rgb.shape


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("size", [(800, 800), (1200, 500), (300, 257), (100, 90)])
def test_the_cards_pictures_have_the_pixels_of_the_cpus(size: tuple[int, int], turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(photo(*size), "JPEG", quality=90, exif=exif)
    ours, theirs = CardDecoder(whole).decode(data, 256), preprocess.decode(data, 256)
    assert np.abs(ours.rgb.astype(float) - theirs.rgb).mean() < 1


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(90, 70), "PNG"),
        encoded(photo(90, 70).convert("L"), "JPEG"),
        encoded(photo(90, 70).convert("CMYK"), "JPEG"),
        encoded(photo(90, 70), "JPEG", progressive=True),
        encoded(photo(90, 70), "JPEG", keep_rgb=True),
        encoded(photo(90, 70), "JPEG", icc_profile=swapped_profile()),
        encoded(photo(90, 70), "JPEG") + b"\0",
    ],
    ids=["png", "grey", "cmyk", "progressive", "rgb", "profile", "stray byte"],
)
def test_what_is_no_plain_jpeg_is_left_to_the_cpu(data: bytes) -> None:
    found, expected = CardDecoder(never).decode(data, 32), preprocess.decode(data, 32)
    assert np.array_equal(found.rgb, expected.rgb)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.EMPTY),
        (b"\xff\xd8\xff\xd9", ErrorCode.CORRUPT),
        (encoded(photo(90, 70), "JPEG")[:-300], ErrorCode.TRUNCATED),
    ],
)
def test_a_damaged_file_gets_the_cpus_verdict(data: bytes, code: ErrorCode) -> None:
    with pytest.raises(ImageFailure) as caught:
        CardDecoder(never).decode(data, 32)
    assert caught.value.code is code


def test_a_picture_over_the_limits_never_reaches_the_card() -> None:
    with pytest.raises(ImageFailure) as caught:
        CardDecoder(never).decode(encoded(photo(90, 70), "JPEG"), 32, DecodeLimits(max_pixels=6000))
    assert caught.value.code is ErrorCode.TOO_MANY_PIXELS


@pytest.mark.parametrize("card", [lambda data: None, lambda data: whole(data)[1:]], ids=["refused", "other size"])
def test_what_the_card_does_not_read_the_cpu_does(card: Callable[[bytes], Pixels | None]) -> None:
    data = encoded(photo(90, 70), "JPEG")
    assert np.array_equal(CardDecoder(card).decode(data, 32).rgb, preprocess.decode(data, 32).rgb)


def test_a_card_is_checked_against_the_cpu() -> None:
    CardDecoder(whole).check()
    with pytest.raises(ConfigurationError, match="reads no JPEG"):
        CardDecoder(lambda data: None).check()
    with pytest.raises(ConfigurationError, match="pixels are not the CPU's"):
        CardDecoder(lambda data: whole(data)[:, :, ::-1]).check()


@NO_CARD
def test_nvimagecodec_itself_finds_no_card_here() -> None:
    with pytest.raises(ConfigurationError, match="no decoder on card 0") as caught:
        card_reader(0)
    assert caught.value.exit_code == ExitCode.CONFIGURATION


@NO_CARD
def test_a_worker_that_is_to_decode_on_a_card_that_is_none_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match="device cpu is no card"):
        require_device("auto", decode_on_card=True)


@NO_CARD
def test_the_setting_reaches_the_pipeline(tmp_path: Path) -> None:
    with DaemonPool(1) as pool, pytest.raises(ConfigurationError, match="is no card"):
        Tagger(Settings(decode_on_card=True), ModelStore(tmp_path), pool)
