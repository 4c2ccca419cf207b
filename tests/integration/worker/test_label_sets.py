"""`tagmill labelset` from example images to results, with a real bundle, in this process."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.bundles import COLORS, write_classifier, write_image_tower
from support.image_fixtures import write_image

from export.cli.labelset import labelset
from export.cli.model import model
from producer.cli.results import results
from producer.cli.submit import submit
from tagmill.cli.db import db
from tagmill.errors import InputError, NothingToDo
from worker.cli.tag import tag

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a catalog of nine red, green and blue images, tagged by colors@1, which gives embeddings."""
    monkeypatch.setenv("TAGMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'tags.db'}")
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(tmp_path / "models"))

    def call(command: object, *words: object) -> str:
        done = CliRunner().invoke(command, list(map(str, words)))  # type: ignore[arg-type]
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    for color in COLORS:
        for number in range(3):
            write_image(tmp_path / "shop" / f"{color}-{number}.png", color, shade=10 * number)
    call(db, "upgrade")
    bundle = write_classifier(tmp_path / "colors.onnx", embedding=True)
    call(model, "add", bundle)
    call(tag, tmp_path / "shop", "--bundle", bundle)
    return call


def examples(folder: Path, each: int = 3) -> Path:
    """Write examples of two categories: red images are warm, blue ones cold."""
    for color, label in (("red", "warm"), ("blue", "cold")):
        for number in range(each):
            write_image(folder / label / f"{number}.png", color, shade=5 + 7 * number)
    return folder


def labels(run: Run, name: str) -> dict[str, str]:
    lines = run(results, "--model", name, "--format", "jsonl").splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return {row["image_key"]: row["models"][name]["labels"][0]["label"] for row in rows}


def test_a_folder_of_examples_labels_the_catalog_without_an_inference(run: Run, tmp_path: Path) -> None:
    made = run(labelset, "create", "mood", "--model", "colors", "--examples", examples(tmp_path / "examples"))
    assert "mood@1: 2 labels for the embeddings of colors@1" in made
    assert "of 6 examples get their own label" in made
    applied = json.loads(run(labelset, "apply", "mood", "--json").splitlines()[-1])
    assert applied == {"model": "mood@1", "images": 9, "labeled": 9, "unknown": applied["unknown"], "shown": 9}
    found = labels(run, "mood")
    assert {found[f"red-{number}.png"] for number in range(3)} == {"warm"}
    assert {found[f"blue-{number}.png"] for number in range(3)} == {"cold"}
    assert {found[f"green-{number}.png"] for number in range(3)} == {"unknown"}
    assert "0 of 9 images are newly labeled" in run(labelset, "apply", "mood")
    with sqlite3.connect(tmp_path / "tags.db") as database:
        provider = "SELECT DISTINCT provider.name FROM result JOIN provider ON provider.id = provider_id"
        assert sorted(row[0] for row in database.execute(provider)) == ["CPUExecutionProvider", "labelset"]
    with pytest.raises(InputError, match="mood@1 is a label set, which no worker runs; tag with --model colors@1"):
        run(model, "verify", "mood")
    with pytest.raises(InputError, match="mood@1 is a label set"):
        run(submit, tmp_path / "shop", "--model", "mood", "--dry-run")


def test_keys_of_the_catalog_are_examples_without_an_image(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "examples.csv"
    rows = ["key,label", *(f"{color}-{number}.png,{color}ish" for color in COLORS for number in range(2))]
    table.write_text("\n".join(rows))
    for path in (tmp_path / "shop").iterdir():
        path.unlink()
    run(labelset, "create", "ish", "--model", "colors@1", "--examples", table)
    run(labelset, "apply", "ish")
    assert labels(run, "ish") == {f"{color}-{number}.png": f"{color}ish" for color in COLORS for number in range(3)}
    shown = json.loads(run(labelset, "show", "ish"))
    assert (shown["model"], shown["labels"]) == ("colors@1", ["blueish", "greenish", "redish"])
    assert shown["examples"] == {"count": 6, "least": 2, "most": 2}
    assert shown["catalog_embeddings"] == 9
    assert [found["name"] for found in json.loads(run(labelset, "list", "--json"))] == ["ish"]


def test_vectors_of_texts_label_what_an_image_tower_embedded(run: Run, tmp_path: Path) -> None:
    run(tag, tmp_path / "shop", "--bundle", write_image_tower(tmp_path / "tower.onnx"))
    np.savez(tmp_path / "texts.npz", labels=np.array(["a red thing", "a blue thing"]), vectors=np.eye(3)[[0, 2]])
    made = run(labelset, "create", "texts", "--model", "tower", "--vectors", tmp_path / "texts.npz")
    assert "no image becomes unknown: the catalog has too few embeddings" in made
    run(labelset, "apply", "texts")
    found = labels(run, "texts")
    assert (found["red-1.png"], found["blue-1.png"]) == ("a red thing", "a blue thing")


def test_what_cannot_be_used_is_one_line_that_says_what_to_do(run: Run, tmp_path: Path) -> None:
    create = (labelset, "create", "mood", "--model", "colors", "--examples")
    folder = examples(tmp_path / "examples", 1)
    table = tmp_path / "keys.csv"
    cases = {
        "key,label\nmissing.png,warm\nred-1.png,cold\n": "1 of 2 keys have no embedding of colors@1",
        "key,label\nred-1.png,warm\nred-1.png,cold\n": "is an example of warm and of cold",
        "key,label\nred-1.png,warm\n": "has one category, warm",
        "key,label\nred-1.png,unknown\nred-2.png,warm\n": "rename that category",
        "key,word\nred-1.png,warm\n": "has no columns key and label",
        "key,label\nred-1.png,warm,x\n": "has 3 columns, its header 2",
    }
    for content, message in cases.items():
        table.write_text(content)
        with pytest.raises(InputError, match=message):
            run(*create, table)
    table.write_text("key,label\nred-1.png,\n")
    with pytest.raises(NothingToDo, match="holds no example"):
        run(*create, table)
    for path in (folder / "cold").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="no image of cold can be read"):
        run(*create, folder)
    with pytest.raises(InputError, match="is not the bundle of colors@1"):
        run(*create, folder, "--bundle", write_classifier(tmp_path / "other.onnx"))
    with pytest.raises(InputError, match="is not a folder"):
        run(*create, tmp_path / "nowhere")
    with pytest.raises(InputError, match="must begin with a letter"):
        run(labelset, "create", "../mood", "--model", "colors", "--examples", folder)
    with pytest.raises(InputError, match="no model mood"):
        run(labelset, "apply", "mood")
    write_classifier(tmp_path / "plain.onnx", name="plain")
    run(model, "add", tmp_path / "plain.onnx")
    with pytest.raises(InputError, match=r"plain@1 gives no embedding; export it with `tagmill export --embedding"):
        run(labelset, "create", "mood", "--model", "plain", "--examples", folder)
    assert "Name either --examples or --vectors" in run(labelset, "create", "mood", "--model", "colors")


def test_one_example_a_category_suffices_and_says_what_it_lacks(run: Run, tmp_path: Path) -> None:
    made = run(labelset, "create", "mood", "--model", "colors", "--examples", examples(tmp_path / "examples", 1))
    assert "no image becomes unknown: no category has a second example" in made
    run(labelset, "apply", "mood", "--run", 1)
    assert labels(run, "mood")["red-0.png"] == "warm"
