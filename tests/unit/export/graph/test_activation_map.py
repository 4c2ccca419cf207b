"""Activation maps: found by what a network computes, whatever its layers are called."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export.graph.activation_map import Localized, find_feature_map
from tagmill.errors import InputError
from training.models.backbones import build_transfer
from training.models.build import build

SIZE = 48


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


def test_the_mean_of_the_evidence_is_the_logit(images: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = build_transfer("mobilenet_v3_small", 64, 3, head=0)
    place = find_feature_map(network, images.repeat(2, 1).repeat(2, 2))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    given = []
    hook = place.source.register_forward_hook(lambda layer, inputs, output: given.append(output))
    with torch.inference_mode():
        logits = network(pixels)
        hook.remove()
        _, found = Localized(network, place)(pixels)
        evidence = torch.einsum("lf,nfhw->nlhw", place.head.weight, given[0])
    assert torch.allclose(evidence.mean((2, 3)) + place.head.bias, logits, atol=1e-4)
    best = evidence[torch.arange(2), logits.argmax(1)].relu()
    expected = (255 * best / best.amax((1, 2), keepdim=True).clamp_min(1e-12)).round()
    assert (found.float() - expected).abs().max() <= 1


def test_a_network_that_looks_at_the_mirror_image_gives_a_map_of_the_image(images: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = build_transfer("resnet", SIZE, 3, head=0, mirror=True)
    localized = Localized(network, find_feature_map(network, images)).eval()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        plain, mirrored = localized(pixels)[1].int(), localized(pixels.flip(3))[1].int()
    assert plain.float().std() > 0
    assert (plain - mirrored.flip(2)).abs().max() <= 1


def test_networks_without_an_averaged_map_and_one_linear_layer_are_refused(images: NDArray[np.uint8]) -> None:
    for network in (build_transfer("resnet", SIZE, 3, head=8), build("airbench", SIZE, 3), build("mlp", SIZE, 3)):
        with pytest.raises(InputError, match="averages its last feature map"):
            find_feature_map(network, images)
