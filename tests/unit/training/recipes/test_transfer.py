"""`tagmill train transfer`: backbones of Tagmill and torchvision; weights from a run, from a file, or random."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.checkpoints import InterruptAt, short, write_segmenter_run
from support.image_fixtures import draw_noisy, draw_shapes
from torchvision.models import get_model

from export.build import describe
from tagmill.errors import InputError
from training.annotations.folders import Folders, short_name
from training.checkpoint import load
from training.cli.train import train
from training.evaluation.predict import device_for
from training.loop import features as features_module
from training.loop.features import backbone_features
from training.models.backbones import build_transfer, matching_weights, parameter_groups
from training.models.classifiers import Arch, parameters
from training.recipes.cnn import DEFAULTS as CNN
from training.recipes.cnn import train_cnn
from training.recipes.pretrained import find_weights
from training.recipes.transfer import DEFAULTS, train_transfer

torch.set_num_threads(1)

SMALL = short(DEFAULTS, size=32, epochs=1, head_epochs=2, batch_size=8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `train cnn --arch resnet` on two colors."""
    folder = tmp_path_factory.mktemp("known")
    data = draw_noisy(folder / "train", ("red", "blue"), each=8)
    train_cnn(Folders((data,)), folder / "run", Arch.RESNET, short(CNN[Arch.RESNET], size=32, epochs=1, batch_size=8))
    return folder / "run"


def test_the_tutorials_vgg16_has_its_dense_256_on_flat_features() -> None:
    network = build_transfer("vgg16", 64, 10, head=256)
    assert parameters(network.backbone) == 14_714_688  # VGG16 without its top, as Keras counts it
    assert parameters(network.head) == (512 * 2 * 2) * 256 + 256 + 256 * 10 + 10


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "convnext_tiny"])
def test_backbones_of_torchvision_take_a_new_head(name: str) -> None:
    network = build_transfer(name, 64, 5, head=0).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_the_weights_of_a_run_are_copied_layer_by_layer(trained: Path) -> None:
    state = load(trained).state
    network = build_transfer("resnet", 48, 4, head=0)
    network.load_state_dict(network.state_dict() | matching_weights(network, state, "resnet"))
    assert torch.equal(network.normalize.mean, state["0.mean"])
    assert torch.equal(network.backbone[0][0].weight, state["1.0.weight"])


def test_a_transfer_trains_first_the_head_and_then_all_layers(tmp_path: Path, trained: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=8),), (), (draw_noisy(tmp_path / "test", each=4, seed=1),))
    report = train_transfer(folders, tmp_path / "run", str(trained), short(SMALL, epochs=6, average=0.0))
    assert [entry["epoch"] for entry in report["history"]] == list(range(1, 9))
    assert report["accuracy"] >= 0.5
    checkpoint = load(tmp_path / "run")
    assert (checkpoint.recipe, checkpoint.arch, checkpoint.options) == (
        "transfer",
        "resnet",
        {"head": 0, "mirror": False},
    )
    assert checkpoint.hyperparameters["weights"] == short_name(trained)  # no path of the machine it was trained on
    assert str(trained.parent) not in json.dumps(describe(checkpoint, "x").to_metadata())


def test_without_fine_tuning_the_backbone_is_unchanged(tmp_path: Path, trained: Path) -> None:
    data = draw_noisy(tmp_path / "train", each=6)
    train_transfer(Folders((data,)), tmp_path / "run", str(trained), short(SMALL, epochs=0, head=16))
    before, after = load(trained).state, load(tmp_path / "run").state
    assert torch.equal(after["backbone.0.0.weight"], before["1.0.weight"])
    assert torch.equal(after["backbone.0.1.running_mean"], before["1.1.running_mean"])
    assert after["head.0.weight"].shape == (16, 128)


def test_a_stopped_transfer_resumes_in_its_stage(tmp_path: Path, trained: Path) -> None:
    folders, hyper = Folders((draw_noisy(tmp_path / "train", each=6),)), short(SMALL, epochs=3)
    train_transfer(folders, tmp_path / "whole", str(trained), hyper)
    with pytest.raises(KeyboardInterrupt):  # in the fine-tuning: the head has 2 epochs
        train_transfer(folders, tmp_path / "stopped", str(trained), hyper, display=InterruptAt("epoch 1/3"))
    report = train_transfer(folders, tmp_path / "stopped", str(trained), hyper, resume=True)
    assert [entry["epoch"] for entry in report["history"]] == [1, 2, 3, 4, 5]
    one, two = load(tmp_path / "whole").state, load(tmp_path / "stopped").state
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_lower_stages_learn_at_lower_rates() -> None:
    network = build_transfer("resnet18", 32, 3, head=0)
    groups = parameter_groups(network, 1e-2, 0.5)
    assert [group["lr"] for group in groups[:3]] == [1e-2, 5e-3, 2.5e-3]
    counted = sum(parameter.numel() for group in groups for parameter in group["params"])  # type: ignore[attr-defined]
    assert counted == parameters(network)


def test_the_features_of_a_frozen_backbone_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_transfer("resnet", 32, 2, head=0)
    pixels = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    first = backbone_features(network, pixels, device_for("cpu"))
    calls: list[int] = []
    monkeypatch.setattr(features_module, "_compute", lambda *given: calls.append(1) or first)
    assert np.array_equal(backbone_features(network, pixels, device_for("cpu")), first)
    assert not calls
    backbone_features(network, pixels[:4], device_for("cpu"))
    assert calls == [1]


def test_a_file_of_torchvisions_weights_is_read(tmp_path: Path) -> None:
    torch.save(get_model("mobilenet_v3_small", weights=None).state_dict(), tmp_path / "weights.pth")
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    hyper = short(SMALL, epochs=0, head_epochs=1)
    train_transfer(folders, tmp_path / "run", str(tmp_path / "weights.pth"), hyper, backbone="mobilenet_v3_small")
    assert load(tmp_path / "run").arch == "mobilenet_v3_small"


@pytest.mark.parametrize(
    ("weights", "backbone", "message"),
    [
        ("none", None, "--weights none needs --backbone"),
        ("imagenet", "resnet", "resnet is Tagmill's own: there are no ImageNet weights"),
        ("imagenet", "resnet9000", "no network is called resnet9000"),
        ("none", "resnet9000", "no network is called resnet9000"),
        ("nowhere", None, "must be none, imagenet, a run folder or a file of weights"),
    ],
)
def test_weights_that_do_not_exist_are_refused_by_name(
    tmp_path: Path, weights: str, backbone: str | None, message: str
) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    with pytest.raises(InputError, match=message):
        train_transfer(folders, tmp_path / "run", weights, SMALL, backbone=backbone)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), 7, {}, {"epoch": 3}, {"state_dict": 4}])
def test_a_file_without_weights_is_refused_by_name(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth: holds no weights by name; save a network's state_dict"):
        find_weights(str(tmp_path / "weights.pth"), "resnet18")


@pytest.mark.parametrize("weights", ["none", "imagenet"])
@pytest.mark.parametrize(
    "name", ["deeplabv3_resnet50", "fasterrcnn_resnet50_fpn", "r3d_18", "quantized_resnet18", "unet"]
)
def test_a_network_that_is_no_classifier_is_refused_before_a_download(name: str, weights: str) -> None:
    with pytest.raises(InputError, match=f"--backbone: {name} does not serve as backbone; take a plain class"):
        find_weights(weights, name)


def test_a_run_of_a_segmenter_is_refused(tmp_path: Path) -> None:
    run = write_segmenter_run(tmp_path / "run", Folders((draw_shapes(tmp_path / "train", 4),)))
    with pytest.raises(InputError, match="run: unet does not serve as backbone"):
        find_weights(str(run), None)


@pytest.mark.parametrize(("name", "only"), [("vit_b_32", ", only of 224"), ("maxvit_t", "")])
def test_a_backbone_with_one_size_refuses_others_in_one_line(tmp_path: Path, name: str, only: str) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    with pytest.raises(InputError, match=f"{name} cannot take images of 32 pixels{only}; choose another --backbone"):
        train_transfer(folders, tmp_path / "run", "none", SMALL, backbone=name)


def test_a_backbone_with_an_auxiliary_output_trains_on_the_main_one() -> None:
    network = build_transfer("googlenet", 64, 5, head=0).train()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--head-epochs", "3"],
            "--head-epochs needs trained weights below the head, not --weights none; leave it out",
        ),
        (["--head-lr", "0.1"], "--head-lr needs trained weights below the head"),
        (["--fine-tune-epochs", "0"], "--weights none --fine-tune-epochs 0: nothing would be trained; give --fine"),
    ],
)
def test_options_that_need_trained_weights_are_refused_before_images_are_read(
    tmp_path: Path, words: list[str], message: str
) -> None:
    places = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]
    error = (
        CliRunner().invoke(train, ["transfer", "--weights", "none", "--backbone", "resnet", *places, *words]).exception
    )
    assert isinstance(error, InputError)
    assert str(error).startswith(message)


def test_weights_of_another_network_are_refused(tmp_path: Path, trained: Path) -> None:
    folders = Folders((draw_noisy(tmp_path / "train", each=4),))
    with pytest.raises(InputError, match="holds a resnet, not a vgg16"):
        train_transfer(folders, tmp_path / "run", str(trained), SMALL, backbone="vgg16")
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match="the weights hold no backbone"):
        train_transfer(folders, tmp_path / "run", str(tmp_path / "weights.pth"), SMALL, backbone="vgg11")


@pytest.mark.usefixtures("figures")
def test_the_command_trains_from_random_weights_for_comparison(tmp_path: Path) -> None:
    data, run = draw_noisy(tmp_path / "train", each=4), tmp_path / "run"
    words = ["transfer", "--weights", "none", "--backbone", "resnet", "--data", str(data), "--out", str(run)]
    done = CliRunner().invoke(train, [*words, "--size", "32", "--fine-tune-epochs", "1", "--batch-size", "4"])
    assert done.exit_code == 0, done.output
    assert load(run).hyperparameters["weights"] == "none"
