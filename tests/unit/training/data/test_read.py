"""The data of each task: one label per image, several labels, or masks."""

from pathlib import Path

import numpy as np
import pytest
from support.image_fixtures import draw_shapes, write_image

from tagmill.cli.terminal.progress import Display
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT
from training.annotations.folders import Folders
from training.data.read import read_data, read_examples

SPEC = PreprocessSpec(16, 16)


def write_table(folder: Path) -> Path:
    """Write eight images and a CSV with one label for each."""
    rows = ["uri,labels"]
    for number in range(8):
        color = ("red", "blue")[number % 2]
        write_image(folder / f"{number}.png", color, shade=number)
        rows.append(f"{number}.png,{color}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


def test_the_targets_of_each_task(tmp_path: Path) -> None:
    labeled, masked = Folders((write_table(tmp_path / "labels"),)), Folders((draw_shapes(tmp_path / "masks", 6),))
    one = read_data(CLASSIFY, labeled, SPEC, 0, Display()).train.targets
    several = read_data(MULTILABEL, labeled, SPEC, 0, Display()).train.targets
    masks = read_data(SEGMENT, masked, SPEC, 0, Display()).train.targets
    assert (one.dtype, one.shape) == (np.int64, (6,))
    assert (several.dtype, several.shape) == (np.uint8, (6, 2))
    assert (masks.dtype, masks.shape[1:]) == (np.uint8, (16, 16))


def test_the_examples_of_a_model_with_known_labels(tmp_path: Path) -> None:
    table, shapes = write_table(tmp_path / "labels"), draw_shapes(tmp_path / "masks", 2)
    examples, tables = read_examples(CLASSIFY, [table], ("blue", "red"), "known", Display())
    assert ([example.target for example in examples[:2]], tables) == (["red", "blue"], [])
    examples, _ = read_examples(MULTILABEL, [table], ("blue", "red"), "known", Display())
    assert examples[0].target == ("red",)
    labels = read_data(SEGMENT, Folders((draw_shapes(tmp_path / "train", 6),)), SPEC, 0, Display()).labels
    examples, tables = read_examples(SEGMENT, [shapes], labels, "known", Display())
    assert (len(examples), tables[0].shape) == (2, (256,))
    with pytest.raises(InputError, match="category red is not known: blue"):
        read_examples(CLASSIFY, [table], ("blue",), "known", Display())
