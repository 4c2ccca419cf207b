"""`tagmill train segment`: real small trainings on drawn shapes; masks from the file to the loss."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from support.checkpoints import short
from support.image_fixtures import LABELS, draw_shapes

from tagmill.errors import InputError, NothingToDo
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.outcomes import ImageFailure
from tagmill.tasks.metrics import IGNORE, mask_confusion, segmentation
from training.annotations.folders import Folders
from training.checkpoint import load
from training.cli.train import train
from training.data.decode import read_mask
from training.loop.augment import Augmentation, augment
from training.models.classifiers import Arch
from training.models.segmenters import ContextUNet, SegmentArch, UNet, build_segmenter
from training.recipes.cnn import DEFAULTS as CNN
from training.recipes.cnn import train_cnn
from training.recipes.segment import DEFAULTS, label_weights, segmentation_loss, train_segment

# Such small networks gain nothing from threads, and on busy cores their synchronization takes minutes.
torch.set_num_threads(1)

SMALL = short(DEFAULTS, size=64, epochs=6, batch_size=8, lr=1e-2)


@pytest.mark.parametrize("arch", [SegmentArch.UNET, SegmentArch.CONTEXT_UNET])
@pytest.mark.usefixtures("figures")
def test_a_training_learns_shapes_and_writes_a_complete_run(tmp_path: Path, arch: SegmentArch) -> None:
    folders = Folders((draw_shapes(tmp_path / "train"),), (), (draw_shapes(tmp_path / "test", 6, seed=1),))
    report = train_segment(folders, tmp_path / "run", arch, SMALL)
    assert report["mean_iou"] > 0.6
    assert set(report["per_class_iou"]) == set(LABELS)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["mean_iou"] == report["mean_iou"]
    for name in ("curves.png", "masks.png"):
        with Image.open(tmp_path / "run" / name) as image:
            assert image.width > 300
    checkpoint = load(tmp_path / "run")
    assert (checkpoint.recipe, checkpoint.arch, checkpoint.labels) == ("segment", arch, LABELS)


def test_a_training_starts_from_the_body_of_a_resnet_classifier(tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "train", 8)
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "red").symlink_to(data / "images" / "a")
    (tmp_path / "catalog" / "blue").symlink_to(data / "images" / "b")
    classifier = short(CNN[Arch.RESNET], size=32, epochs=1, batch_size=4)
    train_cnn(Folders((tmp_path / "catalog",)), tmp_path / "classifier", Arch.RESNET, classifier)
    known = load(tmp_path / "classifier")
    for network in (UNet(3, 2), ContextUNet(3, 2)):
        network.take_body(known.state)
        for stage in range(7):
            for name, value in network.body[stage].state_dict().items():
                assert torch.equal(value, known.state[f"{stage + 1}.{name}"])
        assert torch.equal(network.normalize.mean, known.state["0.mean"])
    arch = SegmentArch.CONTEXT_UNET
    train_segment(Folders((data,)), tmp_path / "run", arch, short(SMALL, epochs=1), start=tmp_path / "classifier")
    assert load(tmp_path / "run").hyperparameters["start"] == f"{tmp_path.name}/classifier"


def test_a_training_cannot_start_from_another_network(tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "train", 8)
    train_segment(Folders((data,)), tmp_path / "run", SegmentArch.UNET, short(SMALL, epochs=1))
    with pytest.raises(InputError, match="--start holds a unet; a simple-unet starts from a run of the same network"):
        train_segment(Folders((data,)), tmp_path / "other", SegmentArch.SIMPLE_UNET, SMALL, start=tmp_path / "run")


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "train", 8)
    for name in "ab":
        train_segment(Folders((data,)), tmp_path / name, SegmentArch.UNET, short(SMALL, epochs=1))
    one, two = load(tmp_path / "a").state, load(tmp_path / "b").state
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_logits_have_the_size_of_the_image() -> None:
    network = build_segmenter(SegmentArch.UNET, 128, 5).eval()
    assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 5, 128, 128)


def test_a_size_that_64_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a size that 64 divides, not 100; choose another --size"):
        train_segment(
            Folders((draw_shapes(tmp_path / "train", 8),)), tmp_path / "run", SegmentArch.UNET, short(SMALL, size=100)
        )


def test_an_unreadable_image_and_a_mask_in_colors_are_skipped(tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "train", 10)
    (data / "images" / "a" / "000.jpg").write_bytes(b"damaged")
    Image.new("RGB", (80, 64)).save(data / "masks" / "b" / "001.png")
    report = train_segment(Folders((data,)), tmp_path / "run", SegmentArch.UNET, short(SMALL, epochs=1))
    assert report["unreadable"] == 2


def test_missing_and_unusable_masks_are_reported_and_the_rest_is_trained_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = draw_shapes(tmp_path / "train", 10)
    Image.new("L", (64, 64)).save(data / "masks" / "a" / "000.png")
    Image.new("L", (80, 64), IGNORE).save(data / "masks" / "b" / "001.png")
    (data / "masks" / "a" / "002.png").unlink()
    report = train_segment(Folders((data,)), tmp_path / "run", SegmentArch.UNET, short(SMALL, epochs=1))
    assert (report["unreadable"], sum(report["split_sizes"].values())) == (2, 7)
    said = capfd.readouterr().err
    assert f"{data}: 1 images without a mask are left out" in said
    assert "000.jpg: corrupt: its mask has 64x64 pixels, the image 80x64" in said
    assert "001.jpg: corrupt: every pixel of its mask is ignored" in said


def test_masks_with_only_ignored_pixels_are_refused_before_training(tmp_path: Path) -> None:
    data, held = draw_shapes(tmp_path / "train", 4), draw_shapes(tmp_path / "held", 2)
    for mask in held.rglob("masks/*/*.png"):
        Image.new("L", (80, 64), 77).save(mask)
    with pytest.raises(NothingToDo, match="every pixel of its mask is ignored: none has the number of a label"):
        train_segment(Folders((data,), (held,)), tmp_path / "run", SegmentArch.UNET, SMALL)


def test_a_mask_is_resized_as_its_image_is(tmp_path: Path) -> None:
    mask = np.zeros((20, 40), dtype=np.uint8)
    mask[:, 20:] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    same = np.arange(256, dtype=np.uint8)
    stretched = read_mask(tmp_path / "mask.png", PreprocessSpec(32, 32), same, (40, 20))
    assert np.array_equal(stretched, np.repeat([[0] * 16 + [1] * 16], 32, axis=0))
    boxed = read_mask(tmp_path / "mask.png", PreprocessSpec(32, 32, Geometry.LETTERBOX), same, (40, 20))
    assert (boxed[:8] == IGNORE).all()
    assert (boxed[24:] == IGNORE).all()
    assert np.array_equal(boxed[8:24], np.repeat([[0] * 16 + [1] * 16], 16, axis=0))
    cropped = read_mask(tmp_path / "mask.png", PreprocessSpec(20, 20, Geometry.CENTER_CROP), same, (40, 20))
    assert np.array_equal(cropped, mask[:, 10:30])


def test_a_mask_in_colors_is_an_image_failure(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "mask.png")
    with pytest.raises(ImageFailure, match="not palette or gray"):
        read_mask(tmp_path / "mask.png", PreprocessSpec(8, 8), np.arange(256, dtype=np.uint8), (8, 8))


@pytest.mark.parametrize("strength", [Augmentation(shift=0.2), Augmentation(shift=0.1, zoom=0.3, angle=20.0)])
def test_augmentation_moves_image_and_mask_together(strength: Augmentation) -> None:
    masks = torch.zeros(8, 64, 64, dtype=torch.uint8)
    masks[:, 16:40, 20:30] = 1
    pixels = (masks.float() * 200)[:, None].expand(8, 3, 64, 64).contiguous()
    moved, turned = augment(pixels, masks, strength, torch.Generator().manual_seed(1))
    assert turned is not None
    inside = turned != IGNORE
    assert ((moved[:, 0] > 100) == (turned == 1))[inside].float().mean() > 0.99


def test_labels_are_pasted_with_their_pixels_and_ignored_pixels_are_not_pasted() -> None:
    masks = torch.randint(0, 3, (16, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    masks[:, :2] = IGNORE
    # The level of a pixel encodes its image and its label.
    pixels = (torch.arange(16).view(-1, 1, 1) * 10 + masks).float()[:, None].expand(16, 3, 12, 12)
    mixed, changed = augment(pixels, masks, Augmentation(flip=0.0, paste=1.0), torch.Generator().manual_seed(1))
    assert changed is not None
    own = mixed == pixels
    before = torch.roll(pixels, 1, 0)
    assert (own | (mixed == before)).all()
    assert 0.3 < own.float().mean() < 0.7
    assert torch.equal(changed, torch.where(own[:, 0], masks, torch.roll(masks, 1, 0)))
    assert own[:, 0][torch.roll(masks, 1, 0) == IGNORE].all()


def test_a_context_unet_gives_a_mirrored_image_the_mirrored_logits() -> None:
    network = build_segmenter(SegmentArch.CONTEXT_UNET, 64, 5, shrink=1).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        assert torch.allclose(network(pixels.flip(3)), network(pixels).flip(3), atol=1e-5)


def test_ignored_pixels_change_neither_loss_nor_metric() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.ones(2, 8, 8, dtype=torch.long)
    truth[:, :4] = IGNORE
    changed = logits.clone()
    changed[:, :, :4] = 50 * torch.randn(2, 3, 4, 8)
    weights = torch.ones(3)
    for dice in (0.0, 0.5):
        one, two = (segmentation_loss(value, truth, weights, dice) for value in (logits, changed))
        assert torch.allclose(one, two)
    table = mask_confusion(np.zeros((2, 8), dtype=np.uint8), np.full((2, 8), IGNORE, dtype=np.uint8), 3)
    assert table.sum() == 0


def test_a_correct_prediction_has_no_dice_loss() -> None:
    truth = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = torch.nn.functional.one_hot(truth, 3).permute(0, 3, 1, 2).float() * 40
    assert segmentation_loss(logits, truth, torch.ones(3), 1.0) < 1e-4


def test_a_rare_label_has_a_higher_weight() -> None:
    masks = np.zeros((4, 16, 16), dtype=np.uint8)
    masks[:, 0, 0] = 1
    weights = label_weights(masks, 2, rarity=0.25)
    assert weights[1] > 3 * weights[0]
    assert weights.mean() == pytest.approx(1.0)


def test_the_mean_iou_is_over_the_labels_that_occur() -> None:
    true = np.array([[0, 0, 1, 1]])
    metrics = segmentation(mask_confusion(np.array([[0, 1, 1, 1]]), true, 3), LABELS, 1)
    assert metrics["per_class_iou"] == {"background": 0.5, "square": 0.66667}
    assert metrics["mean_iou"] == pytest.approx((0.5 + 2 / 3) / 2, abs=1e-5)
    assert metrics["pixel_accuracy"] == 0.75


@pytest.mark.usefixtures("figures")
def test_the_command_trains_with_the_options_it_was_given(tmp_path: Path) -> None:
    data, run = draw_shapes(tmp_path / "train", 8), tmp_path / "run"
    held = draw_shapes(tmp_path / "held", 4, seed=1)
    words = ["segment", "--data", str(data), "--validation", str(held), "--out", str(run), "--size", "64"]
    done = CliRunner().invoke(train, [*words, "--epochs", "1", "--batch-size", "4", "--augment", "none"])
    assert done.exit_code == 0, done.output
    assert "validation mean iou" in done.stdout
    assert load(run).preprocess == PreprocessSpec(64, 64)


@pytest.mark.parametrize("arch", [SegmentArch.SIMPLE_UNET, "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_the_other_segmenters_train_and_load(tmp_path: Path, arch: str) -> None:
    data = draw_shapes(tmp_path / "train", 4)
    report = train_segment(Folders((data,)), tmp_path / "run", arch, short(SMALL, epochs=1, batch_size=3))
    assert report["arch"] == arch
    network = load(tmp_path / "run").network()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_the_simple_unet_has_the_stages_of_the_tutorial() -> None:
    network = build_segmenter(SegmentArch.SIMPLE_UNET, 256, 21)
    widths = [[layer[0].out_channels for layer in stage] for stage in network.down]
    assert [stage[0] for stage in widths] == [64, 128, 256, 512, 512]
    assert all(len(set(stage)) == 1 for stage in widths)


def test_a_segmenter_starts_from_a_run_of_the_same_network(tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "train", 8)
    train_segment(Folders((data,)), tmp_path / "first", SegmentArch.UNET, short(SMALL, epochs=1))
    start = tmp_path / "first"
    train_segment(Folders((data,)), tmp_path / "run", SegmentArch.UNET, short(SMALL, epochs=1, lr=1e-9), start=start)
    one, two = load(start).state, load(tmp_path / "run").state
    assert torch.allclose(one["head.weight"], two["head.weight"], atol=1e-6)


def test_a_unet_can_work_at_the_full_size() -> None:
    assert build_segmenter(SegmentArch.UNET, 96, 5, shrink=1).eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 5, 96, 96)
    with pytest.raises(ValueError, match="a size that 64 divides, not 96"):
        build_segmenter(SegmentArch.UNET, 96, 5, shrink=2)
