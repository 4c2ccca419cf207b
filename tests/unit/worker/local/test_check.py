"""Pictures are measured in the pass that tags them, and `tagmill check` says which rules they break."""

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw
from sqlalchemy import text
from support.bundles import write_classifier, write_segmenter

from tagmill.db.connection import connect
from tagmill.errors import ConfigurationError, InputError, NothingToDo
from tagmill.measuring import Measuring
from tagmill.settings import Settings
from worker.cli.check import check
from worker.local.tag import TaggedRun, local_settings, tag_locally
from worker.pictures import text_detector


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with a good picture and a small one with a gray background."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, size, background in (("good", 1200, 255), ("bad", 300, 200)):
        image = Image.new("RGB", (size, size), (background,) * 3)
        ImageDraw.Draw(image).ellipse((size * 0.05, size * 0.05, size * 0.95, size * 0.95), fill=(180, 20, 30))
        image.save(folder / f"{name}.png")
    return folder


def tag(shop: Path, url: str, measuring: Measuring | None) -> TaggedRun:
    folder = shop.parent
    bundles = [write_classifier(folder / "c.onnx"), write_segmenter(folder / "s.onnx")]
    settings = local_settings(Settings(device="cpu"), url)
    return tag_locally(settings, [str(shop)], bundles, 2, lambda progress: None, measuring=measuring)


def run_check(*arguments: str) -> Result:
    return CliRunner().invoke(check, arguments, catch_exceptions=False, standalone_mode=False)


def test_known_images_are_measured_with_the_masks_that_are_stored(sqlite_url: str, shop: Path) -> None:
    assert tag(shop, sqlite_url, None).progress.tagged == 2
    with pytest.raises(NothingToDo, match="--measure pictures"):
        run_check("--db", sqlite_url)
    again = tag(shop, sqlite_url, Measuring())
    assert again.progress.tagged == 2
    engine = connect(sqlite_url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT product_from, product_extent FROM catalog_pictures")).all()
        assert [row.product_from for row in found] == ["mask", "mask"]
        inferences = text("SELECT sum(inferences) FROM batch WHERE run_id = :run")
        assert connection.execute(inferences, {"run": again.progress.run}).scalar_one() == 0
        color = text("SELECT image_key, value FROM catalog_attributes WHERE attribute = 'color' ORDER BY 1")
        assert connection.execute(color).all() == [("bad.png", "Red"), ("good.png", "Red")]
    engine.dispose()


def test_a_run_and_the_same_folder_break_the_same_rules(sqlite_url: str, shop: Path) -> None:
    run = tag(shop, sqlite_url, Measuring()).progress.run
    listed = run_check(str(run), "--rules", "amazon", "--format", "csv", "--db", sqlite_url)
    assert listed.return_value == 3
    of_run = [(row["image_key"], row["rule"]) for row in csv.DictReader(io.StringIO(listed.output))]
    assert of_run == [("bad.png", "least-size"), ("bad.png", "white-background"), ("bad.png", "zoom")]
    local = run_check(str(shop), "--rules", "amazon", "--format", "csv")
    assert local.return_value == 3
    of_folder = [(row["image_key"], row["rule"]) for row in csv.DictReader(io.StringIO(local.output))]
    assert sorted(of_folder) == of_run
    assert run_check(str(shop / "good.png"), "--rules", "amazon").return_value == 0


def test_what_is_saved_is_what_the_view_applies(sqlite_url: str, shop: Path) -> None:
    tag(shop, sqlite_url, Measuring())
    own = shop.parent / "own.toml"
    own.write_text('name = "own"\n[[rule]]\nid = "tall"\nmeasure = "short_side"\nat_least = 9000\ndetail = "low"\n')
    assert "2 pictures, 1 of 1 rules broken" in run_check("--rules", str(own), "--save", "--db", sqlite_url).output
    engine = connect(sqlite_url)
    with engine.connect() as connection:
        query = text("SELECT rule FROM catalog_violations WHERE rule_set = 'own'")
        assert connection.execute(query).scalars().all() == ["tall", "tall"]
    engine.dispose()


def test_mistakes_are_told(sqlite_url: str, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag(shop, sqlite_url, Measuring())
    with pytest.raises(InputError, match="no run 99"):
        run_check("99", "--db", sqlite_url)
    with pytest.raises(InputError, match="no such run, file or folder"):
        run_check("nothing-here")
    monkeypatch.setattr(text_detector, "_model", lambda: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tagmill\[picture-text\]'"):
        run_check(str(shop), "--text")
