"""Several labels per image: from a CSV to the score of each label, through the session that workers use."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from export.cli.export import export
from tagmill.tasks.multilabel import MULTILABEL
from training.checkpoint import load
from training.cli.train import train
from worker.inference.session import Session

torch.set_num_threads(1)


def draw_labeled(folder: Path, count: int, seed: int) -> Path:
    """Write images whose left half may be bright and whose right half may be red, and a CSV of these labels."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    rows = []
    for number in range(count):
        tags = [tag for tag in ("bright", "red") if random.random() < 0.5]
        pixels = random.integers(0, 60, (32, 32, 3))
        if "bright" in tags:
            pixels[:, :16] += 150
        if "red" in tags:
            pixels[:, 16:, 0] += 190
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        rows.append((f"{number}.png", "|".join(tags)))
    with (folder / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("uri", "labels"), *(row for row in rows if row[1])])
    return folder / "tags.csv"


@pytest.mark.parametrize("recipe", [["cnn"], ["transfer", "--weights", "none", "--backbone", "resnet"]])
@pytest.mark.usefixtures("figures")
def test_a_multilabel_model_scores_each_label_independently(tmp_path: Path, recipe: list[str]) -> None:
    data, test = draw_labeled(tmp_path / "train", 60, 0), draw_labeled(tmp_path / "test", 20, 1)
    epochs = "--epochs" if recipe == ["cnn"] else "--fine-tune-epochs"
    words = [*recipe, "--multilabel", "--data", str(data), "--test", str(test), "--out", str(tmp_path / "run")]
    words += [epochs, "8", "--size", "32", "--batch-size", "8", "--average", "0", "--augment", "none"]
    done = CliRunner().invoke(train, words)
    assert done.exit_code == 0, done.output
    assert "mean ap" in done.stdout
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["mean_ap"] > 0.8
    assert 0 <= figures["ece_uncalibrated"] < 1
    assert load(tmp_path / "run").task is MULTILABEL
    done = CliRunner().invoke(export, [str(tmp_path / "run"), "-o", str(tmp_path / "tags.onnx")])
    assert done.exit_code == 0, done.output
    session = Session(tmp_path / "tags.onnx", device="cpu")
    both = np.full((1, 32, 32, 3), 30, dtype=np.uint8)
    both[:, :, :16] += 150
    both[:, :, 16:, 0] += 190
    scores = session.run(both).scores[0]
    assert scores.sum() > 1.2  # a softmax would sum to 1
