"""`tagmill train cnn`: real small trainings, and the errors of those that cannot be done."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.checkpoints import InterruptAt, short
from support.image_fixtures import draw_noisy

from tagmill.cli.terminal.progress import Display
from tagmill.errors import ConfigurationError, InputError, NothingToDo
from tagmill.images.preprocess import Geometry, PreprocessSpec
from training.annotations.folders import Folders, short_names
from training.checkpoint import FILE, LAYOUT, load
from training.cli.train import train
from training.data.arrays import Arrays
from training.data.classification import known_examples
from training.data.decode import load_labeled
from training.data.split import stratified_split
from training.evaluation.predict import all_logits, device_for
from training.loop.augment import STRENGTHS, Augmentation, augment
from training.loop.lr_schedule import one_cycle
from training.loop.sampling import balancing_weights, batches
from training.models.build import build
from training.models.classifiers import Arch, parameters
from training.models.segmenters import SegmentArch
from training.recipes.cnn import DEFAULTS, train_cnn

# Such small networks gain nothing from threads, and on busy cores their synchronization takes minutes.
torch.set_num_threads(1)

SMALL = short(DEFAULTS[Arch.SIMPLE_CNN], epochs=3, batch_size=16, lr=5e-3)


def test_the_simple_cnn_has_as_many_parameters_as_the_tutorials_network() -> None:
    assert parameters(build(Arch.SIMPLE_CNN, 32, 10)) == 122_570


def test_the_other_networks_stay_below_four_mebibytes_of_weights() -> None:
    assert 600_000 < parameters(build(Arch.RESNET, 96, 10)) <= 950_000
    assert parameters(build(SegmentArch.UNET, 256, 11)) <= 950_000


@pytest.mark.parametrize("size", [32, 96, 97, 128])
def test_the_resnet_takes_any_size_of_at_least_32(size: int) -> None:
    assert build(Arch.RESNET, size, 4).eval()(torch.zeros(1, 3, size, size)).shape == (1, 4)


@pytest.mark.usefixtures("figures")
def test_a_training_learns_and_writes_a_complete_run(tmp_path: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train"),), (), (draw_noisy(tmp_path / "test", seed=1),))
    report = train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, SMALL)
    assert report["accuracy"] >= 0.9
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written["accuracy"] == report["accuracy"]
    assert [entry["epoch"] for entry in written["history"]] == [1, 2, 3]
    for name in ("curves.png", "predictions.png", "confusion.png"):
        with Image.open(tmp_path / "run" / name) as image:
            assert image.width > 300
    checkpoint = load(tmp_path / "run")
    assert checkpoint.labels == ("blue", "green", "red")
    assert checkpoint.preprocess == PreprocessSpec(32, 32, Geometry.STRETCH)
    assert checkpoint.metrics["images"] == 36
    assert checkpoint.data["test"] == [str(tmp_path / "test")]


def test_the_checkpoint_holds_the_weights_that_were_measured(tmp_path: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train"),), (), (draw_noisy(tmp_path / "test", seed=1),))
    report = train_cnn(folders, tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=2))
    checkpoint = load(tmp_path / "run")
    examples = known_examples([tmp_path / "test"], checkpoint.labels, False, "known", Display())
    test = load_labeled(examples, checkpoint.labels, checkpoint.preprocess)
    scores = all_logits(checkpoint.network(), test.pixels)
    assert (scores.argmax(1) == test.targets).mean() == pytest.approx(report["accuracy"], abs=1e-5)


def test_the_same_seed_trains_the_same_weights_and_another_seed_different_ones(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=6)
    quick = short(SMALL, epochs=1)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_cnn(Folders((data,)), tmp_path / name, Arch.SIMPLE_CNN, short(quick, seed=seed))
    first, same, other = (load(tmp_path / name).state for name in "abc")
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_an_unreadable_image_is_counted_and_skipped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = draw_noisy(tmp_path / "train", each=4)
    (data / "red" / "broken.jpg").write_bytes(b"<html>404</html>")
    report = train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1))
    assert report["unreadable"] == 1
    assert "broken.jpg" in capfd.readouterr().err


def test_two_data_folders_are_merged_category_by_category(tmp_path: Path) -> None:
    first = draw_noisy(tmp_path / "one", ("red", "green"), each=4)
    second = draw_noisy(tmp_path / "two", ("green", "blue"), each=4)
    tests = draw_noisy(tmp_path / "three", each=3, seed=1), draw_noisy(tmp_path / "four", each=2, seed=2)
    report = train_cnn(Folders((first, second), (), tests), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1))
    assert report["labels"] == ("blue", "green", "red")
    assert report["split_sizes"]["train"] + report["split_sizes"]["validation"] == 16
    assert {name: part["images"] for name, part in report["folders"].items()} == {
        f"{tmp_path.name}/three": 9,
        f"{tmp_path.name}/four": 6,
    }


def test_two_test_folders_with_the_same_name_have_separate_metrics(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=4)
    tests = tuple(
        draw_noisy(tmp_path / place / "set" / "test", each=each, seed=each) for place, each in (("a", 3), ("b", 2))
    )
    report = train_cnn(Folders((data,), (), tests), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1))
    assert {name: part["images"] for name, part in report["folders"].items()} == {"a/set/test": 9, "b/set/test": 6}
    assert report["data"]["test"] == ["a/set/test", "b/set/test"]


def test_the_short_name_of_a_folder_is_the_shortest_unique_end_of_its_path() -> None:
    named = short_names([Path(path) for path in ("/x/a/test", "/y/a/test", "/y/b/test", "/a/test", "/y/b/test")])
    assert named == ["x/a/test", "y/a/test", "b/test", "/a/test", "b/test (2)"]


def test_a_sample_catalogs_root_is_read_without_its_masks(tmp_path: Path) -> None:
    draw_noisy(tmp_path / "catalog" / "images", each=3)
    draw_noisy(tmp_path / "catalog" / "masks", each=3)
    report = train_cnn(Folders((tmp_path / "catalog",)), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1))
    assert report["labels"] == ("blue", "green", "red")


def test_the_test_images_do_not_influence_the_training(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=6)
    quick = short(SMALL, epochs=2)
    train_cnn(Folders((data,)), tmp_path / "without", Arch.SIMPLE_CNN, quick)
    train_cnn(Folders((data,), (), (draw_noisy(tmp_path / "test", seed=5),)), tmp_path / "with", Arch.SIMPLE_CNN, quick)
    without, with_test = load(tmp_path / "without"), load(tmp_path / "with")
    assert without.epoch == with_test.epoch
    assert all(torch.equal(without.state[key], with_test.state[key]) for key in without.state)


def test_an_interrupted_training_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=4)
    with pytest.raises(KeyboardInterrupt):
        train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL, display=InterruptAt("epoch 2"))
    assert load(tmp_path / "run").epoch == 2


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).write_bytes(b"precious")
    with pytest.raises(InputError, match="already holds a run; --resume goes on"):
        train_cnn(Folders((draw_noisy(tmp_path / "train", each=2),)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL)
    assert (tmp_path / "run" / FILE).read_bytes() == b"precious"


def test_one_category_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds one category, red; a classifier needs at least two"):
        train_cnn(Folders((draw_noisy(tmp_path / "train", ("red",)),)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL)


def test_an_empty_category_is_refused_by_name(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=2)
    (data / "violet").mkdir()
    with pytest.raises(InputError, match="category violet holds no image"):
        train_cnn(Folders((data,)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL)


def test_a_folder_of_empty_folders_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "train" / "red").mkdir(parents=True)
    with pytest.raises(NothingToDo, match="none of its 1 folders holds an image"):
        train_cnn(Folders((tmp_path / "train",)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: is not a folder"):
        train_cnn(Folders((tmp_path / "nowhere",)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL)


def test_a_test_folder_with_another_category_is_refused(tmp_path: Path) -> None:
    data = draw_noisy(tmp_path / "train", ("red", "green"), each=2)
    test = draw_noisy(tmp_path / "test", ("red", "blue"), each=2)
    with pytest.raises(InputError, match="category blue is not one of the training images': green, red"):
        train_cnn(Folders((data,), (), (test,)), tmp_path / "run", Arch.SIMPLE_CNN, SMALL)


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    resnet = short(DEFAULTS[Arch.RESNET], size=20, epochs=1)
    with pytest.raises(InputError, match=r"at least 32 pixels, not 20; choose another --size"):
        train_cnn(Folders((draw_noisy(tmp_path / "train", each=2),)), tmp_path / "run", Arch.RESNET, resnet)


def test_a_loss_that_is_not_finite_ends_the_training_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="try a --lr below 1e"):
        train_cnn(
            Folders((draw_noisy(tmp_path / "train", each=4),)), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, lr=1e30)
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_is_not_silently_replaced_by_the_cpu() -> None:
    with pytest.raises(ConfigurationError, match="--device cpu"):
        device_for("cuda")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(200)])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(InputError, match="is damaged or none of Tagmill's"):
        load(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"state": torch.nn.Linear(2, 2).state_dict(), "meta": {"layout": LAYOUT}}, tmp_path / FILE)
    with pytest.raises(InputError, match="is damaged or no Tagmill checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize("data", ["shop", {"train": [7]}, {"train": None}, [["shop"]]], ids=repr)
def test_a_checkpoint_whose_fields_have_another_type_is_refused(tmp_path: Path, data: object) -> None:
    train_cnn(
        Folders((draw_noisy(tmp_path / "train", each=4),)), tmp_path / "run", Arch.SIMPLE_CNN, short(SMALL, epochs=1)
    )
    stored = torch.load(tmp_path / "run" / FILE, weights_only=True)
    stored["meta"]["data"] = data
    torch.save(stored, tmp_path / "run" / FILE)
    with pytest.raises(InputError, match="is damaged or no Tagmill checkpoint"):
        load(tmp_path / "run")


def test_a_run_without_a_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint; name the --out folder"):
        load(tmp_path)


def test_the_split_holds_out_a_share_of_every_category_and_repeats_for_a_seed() -> None:
    groups = np.repeat([0, 1, 2], [100, 20, 3])
    kept, held = stratified_split(groups, 0.1, seed=3)
    assert np.bincount(groups[held]).tolist() == [10, 2, 1]
    assert sorted([*kept, *held]) == list(range(123))
    assert np.array_equal(held, stratified_split(groups, 0.1, seed=3)[1])
    assert not np.array_equal(held, stratified_split(groups, 0.1, seed=4)[1])


def test_balancing_draws_every_category_of_every_source_equally_often() -> None:
    sources = np.repeat([0, 0, 1], [90, 10, 2])
    targets = np.repeat([0, 1, 1], [90, 10, 2])
    weights = balancing_weights(Arrays(np.zeros((102, 1, 1, 3), np.uint8), targets, sources, [], []))
    drawn = torch.cat(list(batches(102, 17, weights, torch.Generator().manual_seed(0))))
    many = torch.cat([drawn, *batches(102, 102, weights, torch.Generator().manual_seed(1))])
    share = np.bincount(sources[many] * 2 + targets[many], minlength=4) / len(many)
    assert share[[0, 1, 3]] == pytest.approx([1 / 3] * 3, abs=0.1)


def test_the_rate_rises_for_a_quarter_and_falls_to_almost_nothing() -> None:
    rates = [one_cycle(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert rates.index(max(rates)) == 24
    assert max(rates) == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.0, abs=1e-5)
    assert all(0 <= one_cycle(step, steps) <= 1 for steps in range(1, 9) for step in range(steps + 1))


def test_an_epoch_has_every_image_once_and_no_last_batch_of_one() -> None:
    found = batches(33, 16, None, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in found] == [16, 16]
    assert len(set(torch.cat(list(found)).tolist())) == 32


@pytest.mark.parametrize("strength", [found for found in STRENGTHS.values() if found], ids=str)
def test_augmentation_repeats_for_the_same_generator_state_and_stays_in_range(strength: Augmentation) -> None:
    pixels = torch.rand(8, 3, 32, 32) * 255
    one, _ = augment(pixels, None, strength, torch.Generator().manual_seed(4))
    two, _ = augment(pixels, None, strength, torch.Generator().manual_seed(4))
    assert torch.equal(one, two)
    assert one.shape == pixels.shape
    assert not torch.equal(one, pixels)
    assert one.min() >= 0
    assert one.max() <= 255.001


def test_a_shift_moves_whole_pixels_and_a_flip_mirrors() -> None:
    pixels = torch.arange(64.0).view(1, 1, 8, 8).expand(6, 3, 8, 8)
    moved, _ = augment(pixels, None, Augmentation(flip=1.0), torch.Generator().manual_seed(0))
    assert torch.equal(moved, pixels.flip(3))
    shifted, _ = augment(pixels, None, Augmentation(flip=0.0, shift=0.25), torch.Generator().manual_seed(0))
    assert set(shifted.unique().tolist()) <= set(pixels.unique().tolist())


@pytest.mark.usefixtures("figures")
def test_the_command_trains_with_the_options_it_was_given(tmp_path: Path) -> None:
    data, run = draw_noisy(tmp_path / "train", each=4), tmp_path / "run"
    words = ["cnn", "--data", str(data), "--out", str(run), "--arch", "resnet", "--size", "32", "--epochs", "1"]
    done = CliRunner().invoke(train, [*words, "--batch-size", "6", "--augment", "none", "--balance", "--seed", "5"])
    assert done.exit_code == 0, done.output
    assert "validation accuracy" in done.stdout
    used = load(run).hyperparameters
    assert (load(run).arch, used["size"]) == ("resnet", 32)
    assert (used["loop"]["batch_size"], used["loop"]["seed"]) == (6, 5)
    assert used["augmentation"] is None
    assert used["balance"] is True


def test_help_is_printed_without_importing_torch() -> None:
    words = (
        "import sys, training.cli.train, export.cli.export\n"
        "sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
