"""Run `tagmill demo` as `make demo` does."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import create_engine, text
from support.processes import TAGMILL, environment, tagmill, tagmill_json, wait_until


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a demo of 100 images; return its folder and its output."""
    folder = tmp_path_factory.mktemp("demo")
    return folder / "demo", tagmill("demo", "--images", 100, cwd=folder).stdout


def test_the_starter_bundles_tag_the_drawn_catalog_well(demo: tuple[Path, str]) -> None:
    again = tagmill_json("demo", "--images", 100, "--out", demo[0])
    assert again["accuracy"] >= 0.95
    assert again["mean_iou"] >= 0.80
    assert {found["images"] for found in again["categories"].values()} == {10}


def test_the_output_names_every_result_and_its_path(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    for words in ("dress", "t-shirt", "mean IoU", "failures: 5 broken files", "images/s"):
        assert words in printed
    for name in ("report", "image grid", "SQLite file", "masks", "catalog"):
        found = re.search(rf"^{name}: (\S+)$", printed, flags=re.M)
        assert found is not None
        assert (folder.parent / found[1]).exists()
    with Image.open(folder / "grid.png") as grid:
        assert grid.width > 1000


def test_masks_have_the_size_of_their_images(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    engine = create_engine(f"sqlite:///{folder / 'tagmill.db'}")
    statement = text(
        "SELECT image_key, width, height FROM tagged_entry JOIN entry USING (run_id, position) "
        "JOIN image_content ON image_content.id = image_id"
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    engine.dispose()
    assert len(rows) >= 100
    for key, width, height in rows[:20]:
        (found,) = (folder / "masks").rglob(f"{key}.png")
        with Image.open(found) as mask:
            assert mask.size == (width, height)


def test_a_second_demo_infers_nothing_and_says_so(demo: tuple[Path, str]) -> None:
    again = tagmill("demo", "--images", 100, "--out", demo[0]).stdout
    assert "every result was known from an earlier run" in again


def test_another_seed_in_the_same_folder_is_refused_in_one_line(demo: tuple[Path, str]) -> None:
    refused = tagmill("demo", "--images", 100, "--seed", 8, "--out", demo[0], expect=2)
    assert refused.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("moment", ["catalog", "catalog/images", "tagmill.db"])
def test_after_ctrl_c_the_same_command_continues(moment: str, tmp_path: Path) -> None:
    command = [TAGMILL, "demo", "--images", "25", "--out", str(tmp_path / "demo"), "--json"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "demo" / moment).exists() or process.poll() is not None, 240, moment)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240, check=True)
    assert json.loads(done.stdout)["progress"]["tagged"] == 25
