"""What is measured on drawn pictures is what was drawn."""

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tagmill.images.preprocess import fit
from tagmill.records import ImageRow, Mask, PictureRow
from tagmill.tasks.masks import encode_masks
from worker.pictures.colors import ciede2000
from worker.pictures.measure import PIXELS, measure_picture
from worker.pictures.phash import perceptual_hashes
from worker.pictures.product import ProductMask
from worker.pictures.text_detector import TEXT_PIXELS, find_text, load_detector


def shop_picture(color: tuple[int, int, int] = (40, 60, 200), background: tuple[int, int, int] = (255, 255, 255),
                 box: tuple[int, int, int, int] = (100, 60, 700, 1140)) -> Image.Image:  # fmt: skip
    image = Image.new("RGB", (800, 1200), background)
    ImageDraw.Draw(image).rectangle((*box[:2], box[2] - 1, box[3] - 1), fill=color)
    return image


def measured(image: Image.Image, masks: tuple[Mask, ...] = ()) -> PictureRow:
    facts = ImageRow("0" * 64, image.width, image.height, "PNG", 1)
    found = [ProductMask(mask, PIXELS) for mask in masks]
    return measure_picture(fit(np.asarray(image), PIXELS), facts, found)


def values_of(row: PictureRow, attribute: str) -> list[str]:
    return [value for name, value, _ in row.attributes if name == attribute]


def test_a_product_before_white_is_found_with_its_box_and_its_share_of_the_frame() -> None:
    row = measured(shop_picture())
    assert row.product_from == "background"
    assert row.white_border == 1.0
    assert row.product_extent == pytest.approx(0.9, abs=0.01)
    assert row.product_area == pytest.approx(600 * 1080 / (800 * 1200), abs=0.01)
    assert (row.box_left, row.box_top, row.box_right, row.box_bottom) == pytest.approx((100, 60, 700, 1140), abs=6)
    assert row.frame == 0.0


def test_a_gray_background_is_plain_and_not_white() -> None:
    row = measured(shop_picture(background=(235, 235, 235)))
    assert row.product_from == "background"
    assert row.white_border == 0.0


def test_a_busy_background_tells_no_product() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    row = measured(Image.fromarray(noise).resize((800, 1200), Image.Resampling.NEAREST))
    assert (row.product_from, row.product_extent, row.box_left) == ("frame", None, None)


def test_a_mask_says_what_the_product_is_and_a_person_is_no_product() -> None:
    index = np.zeros((256, 256), np.uint8)
    index[60:120, 100:150] = 1
    index[10:60, 100:150] = 2
    masks = encode_masks(index, (0.0, 0.9, 0.9), ("background", "hat", "Skin"), "background", PIXELS, 800, 1200)
    row = measured(shop_picture(), masks)
    assert row.product_from == "mask"
    assert row.product_extent == pytest.approx(50 / 171, abs=0.02)


@pytest.mark.parametrize(
    ("color", "name"),
    [
        ((200, 20, 30), "Red"), ((20, 24, 70), "Navy"), ((60, 110, 200), "Blue"), ((96, 60, 36), "Brown"),
        ((20, 20, 20), "Black"), ((130, 130, 132), "Gray"), ((240, 190, 205), "Pink"), ((40, 120, 60), "Green"),
    ],
)  # fmt: skip
def test_a_plain_product_has_the_name_of_its_color(color: tuple[int, int, int], name: str) -> None:
    row = measured(shop_picture(color))
    assert values_of(row, "color") == [name]
    assert values_of(row, "pattern") == ["Plain"]


def test_a_striped_product_of_three_colors_is_multicolored_and_patterned() -> None:
    image = shop_picture()
    draw = ImageDraw.Draw(image)
    for number, top in enumerate(range(60, 1140, 60)):
        color = ((200, 20, 30), (30, 140, 60), (40, 60, 200))[number % 3]
        draw.rectangle((100, top, 699, top + 59), fill=color)
    row = measured(image)
    assert sorted(values_of(row, "color")) == ["Blue", "Green", "Multicolor", "Red"]
    assert values_of(row, "pattern") == ["Patterned"]


def test_differences_of_colors_are_those_of_the_formula() -> None:
    # Pairs 1, 19 and 31 of the test data that its authors published.
    pairs = [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ]
    for one, other, difference in pairs:
        assert ciede2000(np.array([one]), np.array(other))[0] == pytest.approx(difference, abs=1e-4)


def test_a_frame_and_bars_are_found_and_a_product_is_none() -> None:
    framed = shop_picture(background=(200, 190, 170))
    ImageDraw.Draw(framed).rectangle((0, 0, 799, 1199), outline=(0, 0, 0), width=40)
    assert measured(framed).frame == pytest.approx(0.05, abs=0.012)
    barred = Image.new("RGB", (1000, 1000))
    barred.paste(shop_picture(background=(200, 190, 170)).resize((667, 1000)), (166, 0))
    assert measured(barred).frame == pytest.approx(0.166, abs=0.012)
    assert measured(shop_picture(box=(0, 300, 800, 900))).frame == 0.0


def test_blur_darkness_and_emptiness_are_measured() -> None:
    sharp = measured(shop_picture())
    blurred = measured(shop_picture().filter(ImageFilter.GaussianBlur(20)))
    assert blurred.sharpness < 2 < 10 < sharp.sharpness
    dark = measured(shop_picture().point(lambda value: value // 6))
    assert dark.brightness < 0.2 < 0.9 < sharp.brightness
    assert measured(Image.new("RGB", (400, 400), (90, 90, 90))).contrast == 0.0


def test_the_hash_is_that_of_imagehash() -> None:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)).resize((180, 240), Image.Resampling.BICUBIC)
    plain, mirrored = perceptual_hashes(np.asarray(image))
    assert plain == hash_of(image)
    assert mirrored == hash_of(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def hash_of(image: Image.Image) -> int:
    return int(np.packbits(imagehash.phash(image).hash.ravel()).view(">i8")[0])


def test_text_is_found_and_plain_pictures_have_none() -> None:
    image = shop_picture((90, 120, 90), (210, 200, 190))
    facts = ImageRow("0" * 64, image.width, image.height, "PNG", 1)
    assert find_text(load_detector(), fit(np.asarray(image), TEXT_PIXELS), facts) == (0.0, 0)
    ImageDraw.Draw(image).text((150, 500), "SALE -50 %", fill=(250, 240, 230), font_size=70)
    found = find_text(load_detector(), fit(np.asarray(image), TEXT_PIXELS), facts)
    assert found.boxes >= 1
    assert 0.02 < found.share < 0.2
