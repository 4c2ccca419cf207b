"""`tagmill train segment --backbone`: a pyramid on a pretrained body, from its weights to the bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.checkpoints import short, write_segmenter_run
from support.image_fixtures import draw_noisy, draw_shapes

from export.build import export_bundle
from tagmill.errors import InputError
from tagmill.tasks.metrics import IGNORE
from training.annotations.folders import Folders, short_name
from training.checkpoint import load
from training.cli.train import train
from training.data.arrays import Arrays
from training.evaluation.pixel_scores import PIXELS, sampled_pixels
from training.models.pyramid import Pyramid, build_pyramid, parameter_groups
from training.models.segmenters import SegmentArch
from training.recipes.pretrained import find_weights
from training.recipes.segment import PYRAMID_DEFAULTS, train_segment
from training.recipes.transfer import DEFAULTS as TRANSFER
from training.recipes.transfer import train_transfer

torch.set_num_threads(1)

LITE = "efficientnet_lite0"
PYRAMID = SegmentArch.PYRAMID
SMALL = short(PYRAMID_DEFAULTS, size=64, epochs=4, batch_size=4, lr=1e-2, average=0.0, coarsest=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a pyramid that started from ImageNet weights, on drawn shapes."""
    folder = tmp_path_factory.mktemp("pyramid")
    folders = Folders((draw_shapes(folder / "train"),), (), (draw_shapes(folder / "test", 6, seed=1),))
    train_segment(folders, folder / "run", PYRAMID, SMALL, backbone=LITE, weights="imagenet")
    return folder / "run"


def test_a_pyramid_learns_shapes_from_imagenet_weights(trained: Path) -> None:
    checkpoint = load(trained)
    assert checkpoint.metrics["mean_iou"] > 0.6
    assert checkpoint.options == {"backbone": LITE, "shrink": 1, "finest": 4, "coarsest": 8, "mirror": True}
    assert checkpoint.hyperparameters["weights"] == "imagenet"


def test_the_pixels_scores_are_calibrated(trained: Path) -> None:
    checkpoint = load(trained)
    assert checkpoint.temperature != 1.0
    assert 0 <= checkpoint.metrics["pixel_ece"] <= 1
    assert checkpoint.metrics["pixel_ece_uncalibrated"] != checkpoint.metrics["pixel_ece"]


def test_the_first_stages_of_the_body_stay_as_they_were_and_the_others_learn(trained: Path) -> None:
    state, imagenet = load(trained).state, find_weights("imagenet", LITE).state
    assert imagenet is not None
    start = build_pyramid(64, 3, LITE, coarsest=8, weights=imagenet).state_dict()
    same = {name for name in start if name.startswith("backbone.") and torch.equal(start[name], state[name])}
    frozen = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0", "backbone.blocks.1")
    assert {name for name in start if name.startswith(frozen)} <= same
    assert not {name for name in same if name.endswith("weight") and not name.startswith(frozen)}


def test_a_bundle_of_a_pyramid_gives_the_masks_of_torch(trained: Path, tmp_path: Path) -> None:
    exported = export_bundle(trained, tmp_path / "pyramid.onnx")
    assert exported.parity.mask_difference == 0
    assert exported.spec.temperature == load(trained).temperature


def test_a_training_goes_on_from_a_pyramid_of_other_labels(trained: Path, tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "train", 4)
    (data / "labels.json").write_text('["background", "square", "disk", "star"]')
    still = short(SMALL, epochs=1, lr=1e-9)
    train_segment(Folders((data,)), tmp_path / "run", PYRAMID, still, start=trained)
    one, two = load(trained).state, load(tmp_path / "run").state
    assert torch.allclose(one["merge.0.0.weight"], two["merge.0.0.weight"], atol=1e-6)
    assert two["heads.0.weight"].shape[0] == 4
    assert load(tmp_path / "run").hyperparameters["start"] == short_name(trained)


def test_the_body_of_a_fine_tuned_classifier_is_a_start(tmp_path: Path) -> None:
    photos = draw_noisy(tmp_path / "photos", each=4)
    classifier = short(TRANSFER, size=32, epochs=1, head_epochs=0, batch_size=8)
    train_transfer(Folders((photos,)), tmp_path / "classifier", "imagenet", classifier, LITE)
    tuned = load(tmp_path / "classifier").state
    data = draw_shapes(tmp_path / "train", 4)
    still = short(SMALL, epochs=1, lr=1e-9)
    train_segment(Folders((data,)), tmp_path / "run", PYRAMID, still, start=tmp_path / "classifier")
    checkpoint = load(tmp_path / "run")
    assert checkpoint.options["backbone"] == LITE
    name = "backbone.blocks.2.0.conv_pw.weight"
    assert torch.allclose(checkpoint.state[name], tuned[name], atol=1e-6)


def test_a_pyramid_gives_a_mirrored_image_the_mirrored_logits() -> None:
    network = build_pyramid(64, 5, LITE).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        logits = network(pixels)
        assert logits.shape == (2, 5, 64, 64)
        assert torch.allclose(network(pixels.flip(3)), logits.flip(3), atol=1e-4)


def test_a_pyramid_that_ends_early_has_no_layers_for_coarser_scales() -> None:
    whole, cut = (build_pyramid(128, 5, LITE, shrink=2, finest=2, coarsest=coarsest) for coarsest in (32, 16))
    assert not [name for name in cut.state_dict() if name.startswith(("backbone.blocks.5", "backbone.conv_head"))]
    assert sum(p.numel() for p in cut.parameters()) < 0.3 * sum(p.numel() for p in whole.parameters())
    assert cut.train()(torch.zeros(1, 3, 128, 128)).shape == (1, 5, 32, 32)


def test_the_optimizer_gets_each_trained_parameter_once_and_no_frozen_one() -> None:
    network = build_pyramid(64, 5, LITE)
    network.freeze(2)
    head, body = parameter_groups(network, 1e-2, 0.1)
    given = [*head["params"], *body["params"]]  # type: ignore[misc]  # lists of parameters
    assert len({id(p) for p in given}) == len(given) == sum(p.requires_grad for p in network.parameters())
    assert (head["lr"], body["lr"]) == (1e-2, pytest.approx(1e-3))
    assert not network.train().backbone.bn1.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "unet", "backbone": LITE}, "--backbone and --weights are for --arch pyramid, not for a unet"),
        ({"backbone": "resnet18", "weights": "none"}, "only EfficientNets of timm serve as body"),
        ({"backbone": LITE, "size": 68}, "a size that 8 divides, not 68; choose another --size, --shrink"),
        ({"backbone": LITE, "start": "run", "weights": "none"}, "--start and --weights both say what to start from"),
        ({"backbone": "efficientnet_lite1", "start": "run"}, f"--start holds a pyramid on {LITE}"),
        ({"start": "unet"}, "unet"),
        ({"finest": 16, "coarsest": 8}, "the finest scale, 16, is coarser than the coarsest, 8"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, trained: Path, options: dict[str, object], message: str
) -> None:
    data = draw_shapes(tmp_path / "train", 4)
    values = {"arch": PYRAMID, "size": 64} | options
    if values.get("start") == "run":
        values["start"] = trained
    elif values.get("start") == "unet":
        values["start"] = write_segmenter_run(tmp_path / "unet", Folders((data,)))
    shape = {name: values.pop(name) for name in ("size", "finest", "coarsest") if name in values}
    hyper = short(SMALL, epochs=1, **shape)
    with pytest.raises(InputError, match=message):
        train_segment(Folders((data,)), tmp_path / "out", str(values.pop("arch")), hyper, **values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("figures")
def test_the_command_takes_a_backbone_for_a_pyramid(tmp_path: Path) -> None:
    data, run = draw_shapes(tmp_path / "train", 4), tmp_path / "run"
    words = ["segment", "--data", str(data), "--out", str(run), "--size", "64", "--epochs", "1", "--coarsest", "4"]
    done = CliRunner().invoke(
        train, [*words, "--backbone", LITE, "--weights", "none", "--batch-size", "3", "--no-mirror"]
    )
    assert done.exit_code == 0, done.output
    checkpoint = load(run)
    assert (checkpoint.arch, checkpoint.options["coarsest"], checkpoint.options["mirror"]) == (PYRAMID, 4, False)
    network = checkpoint.network()
    assert isinstance(network, Pyramid)
    assert network.backbone.bn1.num_batches_tracked > 0  # random weights are not frozen


def test_scales_are_refused_for_other_networks(tmp_path: Path) -> None:
    words = ["segment", "--data", str(draw_shapes(tmp_path / "train", 4)), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(train, [*words, "--finest", "2"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "--finest is for --arch pyramid, not for a unet; leave it out"


def test_sampled_pixels_leave_out_what_is_ignored() -> None:
    class Position(torch.nn.Module):
        """Gives each pixel its red level as logit of label 0."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.cat([pixels[:, :1], -pixels[:, :1]], 1)

    pixels = np.random.default_rng(0).integers(0, 200, (6, 8, 8, 3), dtype=np.uint8)
    masks = (pixels[..., 0] % 2).astype(np.uint8)
    masks[:, :4] = IGNORE
    arrays = Arrays(pixels, masks, np.zeros(6, np.int64), [], [])
    logits, truth = sampled_pixels(Position(), arrays)
    assert 0.3 * 6 * PIXELS < len(truth) < 0.7 * 6 * PIXELS
    assert np.array_equal(logits[:, 0] % 2, truth)
    assert np.array_equal(logits[:, 1], -logits[:, 0])
