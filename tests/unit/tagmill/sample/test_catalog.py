"""The sample catalog: deterministic, balanced, exact masks, and continued after an interruption."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tagmill.images.decode import decode
from tagmill.outcomes import ErrorCode, ImageFailure
from tagmill.sample.catalog import CATEGORIES, MASK_LABELS, draw_item, write_catalog
from tagmill.sample.plan import CatalogPlan

IMAGES, BROKEN, SEED = 60, 5, 7
ORIENTATION = 0x0112


def silent(done: int) -> None:
    """Ignore the progress."""


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a complete catalog, which no test changes."""
    directory = tmp_path_factory.mktemp("catalog")
    assert write_catalog(directory, IMAGES, SEED, BROKEN, silent) == directory / "manifest.csv"
    return directory


@pytest.fixture(scope="module")
def truth(catalog: Path) -> list[dict[str, str]]:
    """Return the rows of readable items, with `uri` from the manifest."""
    uris = {row["image_key"]: row["uri"] for row in rows(catalog / "manifest.csv")}
    return [row | {"uri": uris[row["image_key"]]} for row in rows(catalog / "truth.csv") if row["category"]]


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_catalog(tmp_path / name, 10, 3, 5, silent)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_another_seed_draws_other_pixels() -> None:
    first, second = (draw_item("hat", np.random.default_rng(seed)).image for seed in (1, 2))
    assert first.size != second.size or first.tobytes() != second.tobytes()


def test_an_image_does_not_depend_on_the_size_of_the_catalog(tmp_path: Path, catalog: Path) -> None:
    write_catalog(tmp_path, 10, SEED, 0, silent)
    assert {k: v for k, v in contents(tmp_path / "images").items() if contents(catalog / "images").get(k) != v} == {}


def test_all_ten_categories_are_balanced(truth: list[dict[str, str]]) -> None:
    assert Counter(row["category"] for row in truth) == dict.fromkeys(CATEGORIES, IMAGES // 10)


def test_the_manifest_lists_every_item_once_with_the_broken_ones_among_the_others(catalog: Path) -> None:
    listed = rows(catalog / "manifest.csv")
    assert sorted(row["image_key"] for row in listed) == [f"item-{index:06d}" for index in range(IMAGES + BROKEN)]
    assert [row["image_key"] for row in listed] == [row["image_key"] for row in rows(catalog / "truth.csv")]
    places = [place for place, row in enumerate(listed) if row["uri"].startswith("broken/")]
    assert len(places) == BROKEN
    assert max(places) - min(places) > BROKEN


def test_the_labels_are_background_and_the_categories(catalog: Path) -> None:
    assert json.loads((catalog / "labels.json").read_text()) == ["background", *CATEGORIES]


def test_a_mask_fits_the_upright_image_and_holds_its_category(catalog: Path, truth: list[dict[str, str]]) -> None:
    for row in truth:
        with Image.open(catalog / row["uri"]) as image, Image.open(catalog / row["mask"]) as mask:
            assert ImageOps.exif_transpose(image).size == mask.size
            assert mask.mode == "P"
            pixels = np.asarray(mask)
        index = MASK_LABELS.index(row["category"])
        assert set(np.unique(pixels)) == {0, index}
        assert 0.05 < (pixels == index).mean() < 0.8, row


@pytest.mark.parametrize("category", CATEGORIES)
def test_sizes_and_mask_areas_are_within_their_ranges(category: str) -> None:
    for seed in range(6):
        item = draw_item(category, np.random.default_rng((9, seed)))
        assert item.mask.shape == item.image.size[::-1]
        assert item.mask.dtype == np.uint8
        assert min(item.image.size) >= 240
        assert max(item.image.size) <= 640
        assert 0.05 < (item.mask > 0).mean() < 0.8


def test_each_format_has_its_share(catalog: Path, truth: list[dict[str, str]]) -> None:
    formats: Counter[str | None] = Counter()
    progressive = turned = 0
    for row in truth:
        with Image.open(catalog / row["uri"]) as image:
            formats[image.format] += 1
            progressive += bool(image.info.get("progressive"))
            turned += image.getexif().get(ORIENTATION, 1) > 1
    assert formats == {"JPEG": IMAGES * 3 // 5, "PNG": IMAGES // 5, "WEBP": IMAGES // 5}
    assert progressive
    assert turned


def test_a_rotated_image_is_upright_after_exif(catalog: Path, truth: list[dict[str, str]]) -> None:
    plan = CatalogPlan(IMAGES, SEED, BROKEN)
    for row in truth:
        with Image.open(catalog / row["uri"]) as image:
            if image.getexif().get(ORIENTATION, 1) == 1:
                continue
            upright = np.asarray(ImageOps.exif_transpose(image)).astype(int)
        index = int(row["image_key"].removeprefix("item-"))
        drawn = np.asarray(draw_item(row["category"], plan.generator(index), transparent=False).image).astype(int)
        assert np.abs(upright - drawn).mean() < 8


def test_a_png_is_transparent_where_its_mask_says_background(catalog: Path, truth: list[dict[str, str]]) -> None:
    for row in truth:
        if row["uri"].endswith(".png"):
            with Image.open(catalog / row["uri"]) as image, Image.open(catalog / row["mask"]) as mask:
                assert image.mode == "RGBA"
                alpha, inside = np.asarray(image)[..., 3], np.asarray(mask) > 0
            assert np.array_equal(alpha >= 128, inside)
            assert (alpha == 0).mean() > 0.15


def test_each_broken_file_fails_with_its_own_code(catalog: Path) -> None:
    broken = sorted(row["uri"] for row in rows(catalog / "manifest.csv") if row["uri"].startswith("broken/"))
    truncated, text, empty, bomb, missing = (catalog / uri for uri in broken)
    for path, code in (
        (truncated, ErrorCode.TRUNCATED),
        (text, ErrorCode.NOT_AN_IMAGE),
        (empty, ErrorCode.EMPTY),
        (bomb, ErrorCode.TOO_MANY_PIXELS),
    ):
        with pytest.raises(ImageFailure) as failure:
            decode(path.read_bytes(), 256)
        assert failure.value.code == code
    assert bomb.stat().st_size < 10_000
    assert not missing.exists()


def test_an_interrupted_catalog_is_continued(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_catalog(tmp_path / "resumed", 10, 3, 5, interrupt)
    assert not (tmp_path / "resumed" / "catalog.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "resumed" / "images").rglob("*.*")}
    assert len(kept) == 6
    lost_mask = next((tmp_path / "resumed" / "masks").rglob("*.png"))
    lost_mask.unlink()
    seen: list[int] = []
    write_catalog(tmp_path / "resumed", 10, 3, 5, seen.append)
    write_catalog(tmp_path / "whole", 10, 3, 5, silent)
    assert seen == list(range(1, 16))
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    assert sum(path.stat().st_mtime_ns == written for path, written in kept.items()) == 5


def test_a_complete_catalog_is_not_drawn_again(catalog: Path) -> None:
    def never(done: int) -> None:
        raise AssertionError

    assert write_catalog(catalog, IMAGES, SEED, BROKEN, never) == catalog / "manifest.csv"


@pytest.mark.parametrize(("images", "seed", "broken"), [(IMAGES, 8, BROKEN), (61, SEED, BROKEN), (IMAGES, SEED, 6)])
def test_other_parameters_in_the_same_directory_are_refused(catalog: Path, images: int, seed: int, broken: int) -> None:
    with pytest.raises(ValueError, match=r"holds a sample catalog of images 60, seed 7, broken 5"):
        write_catalog(catalog, images, seed, broken, silent)


def test_other_parameters_are_refused_in_an_interrupted_catalog_too(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_catalog(tmp_path, 3, 1, 0, interrupt)
    with pytest.raises(ValueError, match="choose another directory"):
        write_catalog(tmp_path, 3, 2, 0, silent)


def test_a_directory_with_other_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="no sample catalog"):
        write_catalog(tmp_path, 3, 1, 0, silent)
